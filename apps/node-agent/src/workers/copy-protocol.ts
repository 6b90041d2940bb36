/** What the main thread and the thread of one copy say to each other. Bytes are handed over, not copied. */
import type { PlainError } from "@berth/images/trees";

export interface CopyJob {
  readonly kind: "out" | "in";
  /** The first process of the task, whose root is the task's. */
  readonly pid: number;
  readonly startTicks: number;
  /** Absolute, as the container sees it. */
  readonly path: string;
}

export type ToCopyThread =
  /** Of an archive that comes in. */
  | { readonly kind: "data"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end" }
  /** Another piece of an archive that goes out has been sent. */
  | { readonly kind: "sent" };

export type FromCopyThread =
  /** The path has been found. */
  | { readonly kind: "ready" }
  | { readonly kind: "data"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** So many bytes that came in are written. */
  | { readonly kind: "taken"; readonly bytes: number }
  | { readonly kind: "done"; readonly files: number; readonly bytes: number }
  | { readonly kind: "failed"; readonly error: PlainError };

/** How many pieces an archive that goes out may be ahead of the stream. */
export const PIECES_AHEAD = 4;
/** How much of an archive that comes in may wait for the disk. */
export const BYTES_AHEAD = 2 * 1024 * 1024;
