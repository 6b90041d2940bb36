/**
 * A decompressor that is called in this thread: no process to start, no pipe to copy through.
 *
 * Use: `feed` a chunk, then `step` into one buffer after the other until the codec is `idle`; then the next chunk. `end` says
 * whether the data was whole.
 *
 * Invariants: a chunk stays as it is until the codec is idle; nothing is kept of an output buffer between steps.
 */
import { invalidArchive } from "../archive/entry.ts";
import type { OnData, Stage } from "./stream-stage.ts";

export interface Codec extends Disposable {
  /** Only when idle. */
  feed(chunk: Buffer): void;
  /** Everything that can be had of what was fed is had. */
  readonly idle: boolean;
  /** Fills `output` from its start; returns how many bytes. @throws Error that says what is wrong with the data */
  step(output: Buffer): number;
  /** There is no more. @throws Error when the data breaks off */
  end(): void;
}

/** Where a stage gets the buffers that it fills; each is its own until `onData` was called with it. */
export interface OutputBuffers {
  take(): Buffer | undefined;
  /** Resolves when `take` is worth another try. */
  free(): Promise<void>;
}

const OUTPUT_BYTES = 256 * 1024;

/** One buffer, used again and again. */
function oneBuffer(): OutputBuffers {
  const buffer = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  return { take: () => buffer, free: () => Promise.resolve() };
}

/** @param what names the data in errors: `gzip` */
export function codecStage(codec: Codec, what: string, onData: OnData, buffers: OutputBuffers = oneBuffer()): Stage {
  const damaged = (error: unknown): Error => {
    const text = error instanceof Error ? error.message : String(error);
    return invalidArchive(`layer is damaged: its ${what} data cannot be read (${text})`);
  };
  const checked = <T>(call: () => T): T => {
    try {
      return call();
    } catch (error) {
      throw damaged(error);
    }
  };
  let disposed = false;
  /** Until the codec is idle, or something has to be waited for. */
  const run = (): Promise<void> | void => {
    while (!disposed && !codec.idle) {
      const buffer = buffers.take();
      if (buffer === undefined) return buffers.free().then(run);
      const length = checked(() => codec.step(buffer));
      if (length === 0) continue;
      const taken = onData(buffer.subarray(0, length));
      if (taken !== undefined) return taken.then(run);
    }
  };
  return {
    write(chunk) {
      checked(() => codec.feed(chunk));
      return run();
    },
    async end() {
      checked(() => codec.end());
    },
    destroy() {
      if (disposed) return;
      disposed = true;
      codec[Symbol.dispose]();
    },
  };
}
