/**
 * A stage of a byte pipeline: written to at one end, handing out chunks at the other; a child process or a stream of node:zlib.
 *
 * Invariants: whoever takes the chunks decides: what it throws ends the stage and is what `write` and `end` throw; a promise it
 * returns stops the output until it resolves. `destroy` leaves nothing running.
 */
import type { Readable, Writable } from "node:stream";
import { invalidArchive } from "../archive/entry.ts";
import type { ChunkSource } from "./filter-process.ts";

/** Takes a chunk, which is valid during the call only. */
export type OnData = (chunk: Buffer) => Promise<void> | void;

export interface Stage {
  /** Resolves when more may be written. */
  write(chunk: Buffer): Promise<void> | void;
  /** Resolves when all output has been taken. */
  end(): Promise<void>;
  destroy(): void;
}

/** What may wait for a stage, so that it and its source need not keep step. */
const MAX_QUEUED_BYTES = 4 * 1024 * 1024;

/** @param what names the data in errors: `gzip` */
export function streamStage(
  input: Writable,
  output: ChunkSource,
  ended: Promise<void>,
  what: string,
  onData: OnData,
): Stage {
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  let failure: unknown;
  const fail = (error: unknown): void => {
    failure ??= error;
    failed.reject(failure);
    output.stream.destroy();
    input.destroy();
  };
  const damaged = (error: unknown): void => {
    const text = error instanceof Error ? error.message : String(error);
    fail(invalidArchive(`layer is damaged: its ${what} data cannot be read (${text})`));
  };
  // The last chunk may still be on its way to the next stage when the stream has ended.
  let pending: Promise<void> | undefined;
  output.listen((chunk) => {
    if (failure !== undefined) return;
    try {
      const taken = onData(chunk);
      if (taken === undefined) return;
      pending = taken.catch(fail);
      return pending;
    } catch (error) {
      fail(error);
    }
  });
  // A child that ends early breaks the pipe; why it ended is what counts, and `ended` says that.
  input.on("error", (error: NodeJS.ErrnoException) => (error.code === "EPIPE" ? undefined : damaged(error)));
  output.stream.on("error", damaged);
  ended.catch(damaged);
  const outcome = Promise.race([ended, failed.promise]);
  outcome.catch(() => {});
  return {
    write(chunk) {
      if (failure !== undefined) throw failure;
      input.write(chunk);
      if (input.writableLength < MAX_QUEUED_BYTES) return;
      return Promise.race([drained(input), failed.promise]);
    },
    async end() {
      if (failure !== undefined) throw failure;
      input.end();
      // `failure` says it better: what the child's end means, or what `onData` threw.
      await outcome.catch(() => undefined);
      await pending;
      if (failure !== undefined) throw failure;
    },
    destroy() {
      fail(new Error("destroyed"));
    },
  };
}

/** A stream of node:zlib as a source of chunks. */
export function zlibSource(stream: Readable): ChunkSource {
  return {
    stream,
    listen(onChunk) {
      stream.on("data", (chunk: Buffer) => {
        const taken = onChunk(chunk);
        if (taken === undefined) return;
        stream.pause();
        void taken.then(() => stream.resume());
      });
    },
  };
}

function drained(input: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      input.off("drain", done).off("close", done);
      resolve();
    };
    input.on("drain", done).on("close", done);
  });
}
