/**
 * What `npm run up` and `npm run down` print: a line per step, when it is done, with what came of it and how long it took.
 * On a terminal the running step shows too. Colours on terminals only, and not with NO_COLOR.
 */
import { styleText } from "node:util";

type Style = "green" | "red" | "dim" | "bold" | "cyan";

export class Steps {
  readonly #terminal = process.stdout.isTTY;
  readonly #colour = process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "";

  /** Runs a step; what it returns is shown behind its name. */
  async step<T>(name: string, body: () => Promise<T>, outcome: (result: T) => string): Promise<T> {
    if (this.#terminal) process.stdout.write(`  · ${name}`);
    const start = performance.now();
    try {
      const result = await body();
      const seconds = `${((performance.now() - start) / 1000).toFixed(1)} s`;
      this.#line(`  ${this.paint("green", "✓")} ${name.padEnd(12)} ${outcome(result)} ${this.paint("dim", seconds)}`);
      return result;
    } catch (error) {
      this.#line(`  ${this.paint("red", "✗")} ${name}`);
      throw error;
    }
  }

  title(text: string): void {
    process.stdout.write(`\n${this.paint("bold", text)}\n\n`);
  }

  text(...lines: string[]): void {
    for (const line of lines) process.stdout.write(`${line}\n`);
  }

  /** A command as a newcomer would type it. */
  command(line: string): void {
    process.stdout.write(`\n${this.paint("cyan", `$ ${line}`)}\n`);
  }

  paint(style: Style, text: string): string {
    return this.#colour ? styleText(style, text, { validateStream: false }) : text;
  }

  #line(text: string): void {
    process.stdout.write(`${this.#terminal ? "\r\u001B[K" : ""}${text}\n`);
  }
}
