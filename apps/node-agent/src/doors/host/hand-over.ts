/** A writable stream whose chunks are handed to a reader one by one: nothing is kept, so the writer is as slow as the reader. */
import { Writable } from "node:stream";

export interface HandOver {
  readonly stream: Writable;
  /** Ends when the stream does; throws what destroyed it. */
  readonly chunks: AsyncIterable<Buffer>;
}

export function handOver(): HandOver {
  let offered: { readonly chunk: Buffer; readonly taken: () => void } | undefined;
  let over: { readonly error: Error | null } | undefined;
  let news = Promise.withResolvers<void>();
  const stream = new Writable({
    write(chunk: Buffer, _encoding, taken) {
      offered = { chunk, taken };
      news.resolve();
    },
    destroy(error, done) {
      over = { error };
      news.resolve();
      done(error);
    },
  });
  // Told by `chunks`.
  stream.on("error", () => {});
  async function* chunks(): AsyncGenerator<Buffer> {
    for (;;) {
      if (offered !== undefined) {
        const { chunk, taken } = offered;
        offered = undefined;
        yield chunk;
        taken();
      } else if (over !== undefined) {
        if (over.error !== null) throw over.error;
        return;
      } else {
        await news.promise;
        news = Promise.withResolvers();
      }
    }
  }
  return { stream, chunks: chunks() };
}
