/**
 * One blob over several connections: ranges that are fetched side by side and handed out in order.
 *
 * Invariants:
 *  - What is ahead of its turn waits in memory, never in the ingest's file: whatever ends this, a crash too, that file has
 *    no holes. At most `concurrency` ranges of `rangeBytes` wait.
 *  - The first failure in order ends it; what came in order until then was handed out.
 */
import type { BlobStream } from "@berth/registry";
import { StatusError } from "@berth/base";

export interface RangeConfig {
  /** With less to come, one stream is enough. */
  readonly parallelRangeThresholdBytes: number;
  /** 1 switches it off. */
  readonly rangeConcurrency: number;
  readonly rangeBytes: number;
  /** How much of the time a single stream must leave us idle, waiting for the network, before there are more. */
  readonly minIdleShare: number;
}

export const defaultRanges: RangeConfig = {
  parallelRangeThresholdBytes: 32 * 1024 * 1024,
  rangeConcurrency: 4,
  rangeBytes: 8 * 1024 * 1024,
  minIdleShare: 0.5,
};

export type OpenRange = (offsetBytes: number, lengthBytes: number, signal: AbortSignal) => Promise<BlobStream>;

export interface RangesOptions extends Pick<RangeConfig, "rangeConcurrency" | "rangeBytes"> {
  readonly fromBytes: number;
  readonly toBytes: number;
  readonly signal: AbortSignal;
  readonly open: OpenRange;
}

/** Thrown when the server sends whole blobs, whatever range is asked for. */
export const RANGES_IGNORED = "RANGES_IGNORED";

/** Yields the bytes from `fromBytes` to `toBytes`. */
export async function* parallelRanges(options: RangesOptions): AsyncGenerator<Uint8Array> {
  const { fromBytes, toBytes, rangeBytes, rangeConcurrency, signal, open } = options;
  const ended = new AbortController();
  const within = AbortSignal.any([signal, ended.signal]);
  const segments: Segment[] = [];
  let next = fromBytes;
  const fill = (): void => {
    while (segments.length < rangeConcurrency && next < toBytes) {
      const length = Math.min(rangeBytes, toBytes - next);
      segments.push(new Segment(open, next, length, within));
      next += length;
    }
  };
  try {
    for (fill(); segments.length > 0; fill()) {
      yield* segments[0]!.chunks();
      segments.shift();
    }
  } finally {
    ended.abort(new StatusError("CANCELLED", "the rest of the layer is not needed"));
    await Promise.all(segments.map((segment) => segment.ended));
  }
}

/** One range, fetched as fast as it comes. */
class Segment {
  /** Resolves when nothing is under way any more; never rejects. */
  readonly ended: Promise<void>;
  readonly #offset: number;
  readonly #length: number;
  #waiting: Uint8Array[] = [];
  #done = false;
  #failure: unknown;
  #wake: () => void = () => {};

  constructor(open: OpenRange, offset: number, length: number, signal: AbortSignal) {
    this.#offset = offset;
    this.#length = length;
    this.ended = this.#fetch(open, signal)
      .catch((error: unknown) => (this.#failure = error))
      .then(() => {
        this.#done = true;
        this.#wake();
      });
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const ready = this.#waiting;
      this.#waiting = [];
      yield* ready;
      if (this.#waiting.length > 0) continue;
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#done) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async #fetch(open: OpenRange, signal: AbortSignal): Promise<void> {
    await using stream = await open(this.#offset, this.#length, signal);
    if (!stream.rangeHonoured) {
      throw new StatusError("UNIMPLEMENTED", "the registry does not honour ranges", { reason: RANGES_IGNORED });
    }
    let length = 0;
    for await (const chunk of stream.body) {
      length += chunk.length;
      this.#waiting.push(chunk);
      this.#wake();
    }
    if (length !== this.#length) throw new StatusError("UNAVAILABLE", "the registry ended a range early");
  }
}
