/**
 * Pages of `docs/` read as an operator reads them: their commands in order, and what stands in their fences, word for word. A test
 * that walks a page fails when the page says something that the programs do not do, and when it no longer says what is walked.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const DOCS = resolve(import.meta.dirname, "../../docs");

export interface Page {
  readonly name: string;
  readonly text: string;
  /** The commands that stand by themselves, in order, without their remarks. */
  readonly commands: readonly string[];
}

export function readPage(name: string): Page {
  const text = readFileSync(join(DOCS, name), "utf8");
  const lines = text.split("\n").filter((line) => /^ {4}(?:berth|berthd|pg_dump) /.test(line));
  return { name, text, commands: lines.map((line) => line.trim().replace(/ {2,}#.*$/, "")) };
}

/** A fence of that language which has these words. */
export function fenceOf({ name, text }: Page, language: string, having: string): string {
  const fences = [...text.matchAll(/^```(\w+)\n(.*?)^```/gms)];
  const found = fences.find(([, tag, body = ""]) => tag === language && body.includes(having));
  assert.ok(found !== undefined, `${name} has no ${language} with "${having}"`);
  return found[2]!;
}

/** What stands in backquotes in the text and begins so. */
export function quotedCommand({ name, text }: Page, beginning: string): string {
  const quoted = [...text.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code.replaceAll(/\s+/g, " "));
  const found = quoted.find((code) => code.startsWith(beginning));
  assert.ok(found !== undefined, `${name} has no command \`${beginning} …\``);
  return found;
}

export interface WalkOptions {
  /** Only commands that match. Default all. */
  readonly only?: RegExp;
  /** The page's names for what has another name here. */
  readonly words?: readonly (readonly [said: string, here: string])[];
  /** What has to be so before a command, by its beginning. */
  readonly before?: Readonly<Record<string, () => Promise<unknown>>>;
  /** Codes other than 0, by the beginning of the command. */
  readonly codes?: Readonly<Record<string, number>>;
  readonly run: (program: string, args: readonly string[]) => Promise<{ code: number; stdout: string; stderr: string }>;
}

/** Runs a page's commands in order. @returns what each printed, by the command as the page has it */
export async function walk(page: Page, options: WalkOptions): Promise<ReadonlyMap<string, string>> {
  const { only = /./, words = [], before = {}, codes = {} } = options;
  const commands = page.commands.filter((command) => only.test(command));
  for (const beginning of [...Object.keys(before), ...Object.keys(codes)])
    assert.ok(commands.some((command) => command.startsWith(beginning)), `${page.name} says "${beginning}" no more`); // prettier-ignore
  assert.ok(commands.length > 0, `${page.name} has no commands`);
  const printed = new Map<string, string>();
  for (const command of commands) {
    const of = <T>(all: Readonly<Record<string, T>>): T | undefined =>
      Object.entries(all).find(([beginning]) => command.startsWith(beginning))?.[1];
    await of(before)?.();
    const line = words.reduce((text, [said, here]) => text.replaceAll(said, here), command);
    const [program, ...args] = wordsOf(line);
    const { code, stdout, stderr } = await options.run(program!, args);
    assert.equal(code, of(codes) ?? 0, `${page.name}: ${line}\n${stdout}${stderr}`);
    printed.set(command, stdout + stderr);
  }
  return printed;
}

/** As a shell divides them, without anything else that a shell does. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, bare]) => single ?? double ?? bare!);
}
