/**
 * How a pull, push, import or export is shown: on a terminal a bar for each blob, redrawn in place; elsewhere a plain line at each change of a phase
 * or of a blob's state. All of it on stderr, so that stdout stays for the result.
 */
import { createLiveLines, formatBar, formatBytes, formatSeconds, type Paint } from "@berth/base/terminal";
import type { BlobProgress, Progress } from "@berth/proto/host";
import { shortDigest, type Session } from "./session.ts";

export interface ProgressView extends Disposable {
  update(progress: Progress): void;
}

/** Nothing is left to do for it. */
const HERE = new Set(["done", "exists", "mounted"]);

const BAR_WIDTH = 24;
/** What stands beside the image's name and beside a bar, at most. */
const HEADLINE_REST = 66;
const BLOB_REST = 56;
const MAX_LINES = 20;

export function createProgressView(session: Session, image: string): ProgressView {
  const live = session.stderr.isTTY && session.env["TERM"] !== "dumb";
  return live ? createBars(session, image) : createLines(session, image);
}

function createLines(session: Session, image: string): ProgressView {
  const told = new Map<string, string>();
  const tell = (key: string, state: string, size: string): void => {
    if (told.get(key) === state) return;
    told.set(key, state);
    session.note(`${key}  ${state}${size}`);
  };
  return {
    update({ phase, offsetBytes, totalBytes, blobs }) {
      for (const { digest, state, totalBytes: bytes } of blobs) {
        if (state !== "waiting") tell(shortDigest(digest), state, `  ${formatBytes(bytes)}`);
      }
      tell(image, phase, totalBytes === 0n ? "" : `  ${formatBytes(offsetBytes)} / ${formatBytes(totalBytes)}`);
    },
    [Symbol.dispose]() {},
  };
}

function createBars(session: Session, image: string): ProgressView {
  const live = createLiveLines(session.stderr);
  return {
    update(progress) {
      live.update((columns) => [
        headline(session.paint, shorten(image, columns - HEADLINE_REST), progress),
        ...blobLines(session.paint, progress.blobs, Math.max(0, Math.min(BAR_WIDTH, columns - BLOB_REST))),
      ]);
    },
    [Symbol.dispose]: () => live[Symbol.dispose](),
  };
}

function headline(paint: Paint, image: string, progress: Progress): string {
  const { phase, offsetBytes, totalBytes, rateBytesPerSecond, etaMs } = progress;
  const colour = phase === "done" ? paint.green : phase === "failed" ? paint.red : paint.blue;
  const parts = [paint.bold(image), colour(phase)];
  if (totalBytes > 0n) parts.push(`${formatBytes(offsetBytes)} / ${formatBytes(totalBytes)}`);
  if (rateBytesPerSecond > 0n && phase !== "done") parts.push(`${formatBytes(rateBytesPerSecond)}/s`);
  if (etaMs !== undefined && etaMs > 0n && phase !== "done") {
    parts.push(paint.dim(`${formatSeconds(Math.ceil(Number(etaMs) / 1_000))} left`));
  }
  return parts.join("  ");
}

function blobLines(paint: Paint, blobs: readonly BlobProgress[], width: number): string[] {
  const active = blobs.filter(({ state }) => ["downloading", "copying", "unpacking"].includes(state));
  const shown = blobs.length <= MAX_LINES ? blobs : active.slice(0, MAX_LINES);
  const lines = shown.map((blob) => blobLine(paint, blob, width));
  if (shown.length < blobs.length) {
    const done = blobs.filter(({ state }) => HERE.has(state)).length;
    lines.push(paint.dim(`  … ${blobs.length - shown.length} more; ${done} of ${blobs.length} blobs done`));
  }
  return lines;
}

function blobLine(paint: Paint, blob: BlobProgress, width: number): string {
  const { digest, state, offsetBytes, totalBytes } = blob;
  const here = HERE.has(state);
  const share = here ? 1 : totalBytes === 0n ? 0 : Number(offsetBytes) / Number(totalBytes);
  const colour = here ? paint.green : state === "waiting" ? paint.dim : paint.blue;
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  return `  ${shortDigest(digest)}  ${colour(formatBar(share, width))} ${percent}%  ${state.padEnd(11)}  ${formatBytes(totalBytes)}`;
}

/** A line wider than the terminal would break the redraw; of an image's name the end tells most. */
function shorten(image: string, width: number): string {
  return image.length <= width ? image : `…${image.slice(image.length - Math.max(8, width) + 1)}`;
}
