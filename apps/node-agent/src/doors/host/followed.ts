/**
 * Long work and the news of it as one stream: the newest progress whenever the caller is ready for it, then the result.
 * A slow caller misses steps, never the last one, and nothing is queued. Leaving the stream calls the work off.
 */
import { anySignal } from "@berth/base";

export type Followed<P, R> = { readonly progress: P } | { readonly done: R };

export async function* followed<P, R>(
  signal: AbortSignal,
  start: (tell: (progress: P) => void, signal: AbortSignal) => Promise<R>,
): AsyncGenerator<Followed<P, R>> {
  const left = new AbortController();
  let latest: P | undefined;
  let ended: { readonly value: R } | { readonly error: unknown } | undefined;
  let news = Promise.withResolvers<void>();
  const tell = (progress: P): void => {
    latest = progress;
    news.resolve();
  };
  const work = start(tell, anySignal(signal, left.signal))
    .then((value) => void (ended = { value }))
    .catch((error: unknown) => void (ended = { error }))
    .finally(() => news.resolve());
  try {
    for (;;) {
      if (latest !== undefined) {
        const progress = latest;
        latest = undefined;
        yield { progress };
      } else if (ended !== undefined) {
        if ("error" in ended) throw ended.error;
        yield { done: ended.value };
        return;
      } else {
        await news.promise;
        news = Promise.withResolvers();
      }
    }
  } finally {
    left.abort();
    await work;
  }
}

/** Items in groups, so that a long list is neither one message nor a message each. */
export async function* inBatches<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
