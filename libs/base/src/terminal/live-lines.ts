/**
 * Lines that are redrawn in place, for progress on a terminal. Redraws are bounded in rate, whatever the rate of news; what
 * is drawn last stays. The caller makes sure that the stream is a terminal and that nothing else writes to it meanwhile.
 */
const REDRAW_MS = 80;

export interface LiveLines extends Disposable {
  /** Draws soon what `render` then gives, for a terminal of so many columns; a line must not be wider. */
  update(render: (columns: number) => readonly string[]): void;
  /** Draws the last state at once and leaves it standing. */
  finish(): void;
}

/** A terminal, as far as drawing needs it. */
export interface TerminalStream {
  readonly columns?: number;
  write(text: string): unknown;
}

export function createLiveLines(stream: TerminalStream): LiveLines {
  let drawn = 0;
  let latest: ((columns: number) => readonly string[]) | undefined;
  let timer: NodeJS.Timeout | undefined;
  const draw = (): void => {
    timer = undefined;
    if (latest === undefined) return;
    const lines = latest(stream.columns ?? 80);
    const up = drawn === 0 ? "" : `\u001b[${drawn}A`;
    stream.write(`${up}${lines.map((line) => `\u001b[2K${line}\n`).join("")}\u001b[J`);
    drawn = lines.length;
  };
  const finish = (): void => {
    clearTimeout(timer);
    draw();
    latest = undefined;
    drawn = 0;
  };
  return {
    update(render) {
      latest = render;
      timer ??= setTimeout(draw, REDRAW_MS);
    },
    finish,
    [Symbol.dispose]: finish,
  };
}

/** `███░░░` of `width` columns for a share from 0 to 1. */
export function formatBar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return `${"█".repeat(filled)}${"░".repeat(width - filled)}`;
}
