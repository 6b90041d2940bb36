/**
 * How a pull is shown: on a terminal a bar for each layer, redrawn in place; elsewhere a plain line at each change of a phase
 * or of a layer's state. All of it on stderr, so that stdout stays for the result.
 */
import { createLiveLines, formatBar, formatBytes, formatSeconds, type Paint } from "@berth/base/terminal";
import type { LayerProgress, PullProgress } from "@berth/proto/host";
import { shortDigest, type Session } from "./session.ts";

export interface PullView extends Disposable {
  update(progress: PullProgress): void;
}

const BAR_WIDTH = 24;
/** What stands beside the image's name and beside a bar, at most. */
const HEADLINE_REST = 66;
const LAYER_REST = 56;
const MAX_LAYERS = 20;
/** The rate is that of the last so many milliseconds. */
const WINDOW_MS = 3_000;

export function createPullView(session: Session, image: string): PullView {
  const live = session.stderr.isTTY && session.env["TERM"] !== "dumb";
  return live ? createBars(session, image) : createLines(session, image);
}

function createLines(session: Session, image: string): PullView {
  const told = new Map<string, string>();
  const tell = (key: string, state: string, size: string): void => {
    if (told.get(key) === state) return;
    told.set(key, state);
    session.note(`${key}  ${state}${size}`);
  };
  return {
    update({ phase, offsetBytes, totalBytes, layers }) {
      for (const { digest, state, totalBytes: bytes } of layers) {
        if (state !== "waiting") tell(shortDigest(digest), state, `  ${formatBytes(bytes)}`);
      }
      tell(image, phase, totalBytes === 0n ? "" : `  ${formatBytes(offsetBytes)} / ${formatBytes(totalBytes)}`);
    },
    [Symbol.dispose]() {},
  };
}

function createBars(session: Session, image: string): PullView {
  const live = createLiveLines(session.stderr);
  const pace = new Pace();
  return {
    update(progress) {
      pace.note(Number(progress.offsetBytes), performance.now());
      live.update((columns) => [
        headline(session.paint, shorten(image, columns - HEADLINE_REST), progress, pace),
        ...layerLines(session.paint, progress.layers, Math.max(0, Math.min(BAR_WIDTH, columns - LAYER_REST))),
      ]);
    },
    [Symbol.dispose]: () => live[Symbol.dispose](),
  };
}

function headline(paint: Paint, image: string, progress: PullProgress, pace: Pace): string {
  const { phase, offsetBytes, totalBytes } = progress;
  const colour = phase === "done" ? paint.green : phase === "failed" ? paint.red : paint.blue;
  const parts = [paint.bold(image), colour(phase)];
  if (totalBytes > 0n) parts.push(`${formatBytes(offsetBytes)} / ${formatBytes(totalBytes)}`);
  const rate = phase === "downloading" ? pace.bytesPerSecond() : undefined;
  if (rate !== undefined && rate > 0) {
    const left = Math.ceil(Number(totalBytes - offsetBytes) / rate);
    parts.push(`${formatBytes(Math.round(rate))}/s`, paint.dim(`${formatSeconds(left)} left`));
  }
  return parts.join("  ");
}

function layerLines(paint: Paint, layers: readonly LayerProgress[], width: number): string[] {
  const active = layers.filter(({ state }) => state === "downloading" || state === "unpacking");
  const shown = layers.length <= MAX_LAYERS ? layers : active.slice(0, MAX_LAYERS);
  const lines = shown.map((layer) => layerLine(paint, layer, width));
  if (shown.length < layers.length) {
    const done = layers.filter(({ state }) => state === "done" || state === "exists").length;
    lines.push(paint.dim(`  … ${layers.length - shown.length} more; ${done} of ${layers.length} layers done`));
  }
  return lines;
}

function layerLine(paint: Paint, layer: LayerProgress, width: number): string {
  const { digest, state, offsetBytes, totalBytes } = layer;
  const here = state === "done" || state === "exists";
  const share = here ? 1 : totalBytes === 0n ? 0 : Number(offsetBytes) / Number(totalBytes);
  const colour = here ? paint.green : state === "waiting" ? paint.dim : paint.blue;
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  return `  ${shortDigest(digest)}  ${colour(formatBar(share, width))} ${percent}%  ${state.padEnd(11)}  ${formatBytes(totalBytes)}`;
}

/** A line wider than the terminal would break the redraw; of an image's name the end tells most. */
function shorten(image: string, width: number): string {
  return image.length <= width ? image : `…${image.slice(image.length - Math.max(8, width) + 1)}`;
}

/** Bytes per second over the last moments. */
class Pace {
  readonly #seen: { readonly atMs: number; readonly bytes: number }[] = [];

  note(bytes: number, atMs: number): void {
    this.#seen.push({ atMs, bytes });
    while (this.#seen.length > 2 && this.#seen[0]!.atMs < atMs - WINDOW_MS) this.#seen.shift();
  }

  bytesPerSecond(): number | undefined {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    if (first === undefined || last === undefined || last.atMs - first.atMs < 200) return undefined;
    return ((last.bytes - first.bytes) * 1_000) / (last.atMs - first.atMs);
  }
}
