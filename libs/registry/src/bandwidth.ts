/**
 * Limits of bytes per second, for the agent as a whole and per registry, shared by all threads of the process.
 *
 * A bucket is one number on a SharedArrayBuffer: the time at which all bytes taken so far will have been paid for. Whoever
 * takes bytes moves it on by their price and then waits until a burst's worth before it. So transfers are served in the
 * order in which they come, each with one piece at a time, which shares the rate evenly among them; and what is taken
 * during a wait too short for a timer is not lost, it makes the next wait longer.
 */
import type { Clock } from "@berth/base";

export interface BandwidthLimits {
  /** Of all transfers of the agent together. No limit when left out. */
  readonly maxBytesPerSecond?: number;
  /** By registry, as in image references. */
  readonly registries?: Readonly<Record<string, number>>;
  /** For registries that `registries` does not name; asked at each transfer, so that it may change at run time. */
  readonly rateOf?: (registry: string) => number | undefined;
}

/** Structured-cloneable. */
export interface BandwidthState {
  readonly buckets: readonly { readonly bytesPerSecond: number; readonly buffer: SharedArrayBuffer }[];
}

/** What may pass at once after a pause. */
const BURST_MS = 100;
/** Shorter waits are left to the next piece: timers do not keep them. */
const MIN_WAIT_MS = 2;
const PIECE_BYTES = 64 * 1024;
const NS_PER_MS = 1_000_000n;

/** The buckets of a process; give the same one to all its clients. */
export class Bandwidth {
  readonly #limits: BandwidthLimits;
  readonly #buffers = new Map<string, SharedArrayBuffer>();

  constructor(limits: BandwidthLimits = {}) {
    this.#limits = limits;
  }

  /** What holds for transfers from a registry, whichever mirror they come from. */
  state(registry: string): BandwidthState {
    const { maxBytesPerSecond, registries = {}, rateOf } = this.#limits;
    const own = Object.hasOwn(registries, registry) ? registries[registry] : rateOf?.(registry);
    const rates = [
      { name: "agent", bytesPerSecond: maxBytesPerSecond },
      { name: `registry ${registry}`, bytesPerSecond: own },
    ];
    return {
      buckets: rates.flatMap(({ name, bytesPerSecond }) =>
        bytesPerSecond === undefined ? [] : [{ bytesPerSecond, buffer: this.#buffer(name) }],
      ),
    };
  }

  #buffer(name: string): SharedArrayBuffer {
    let buffer = this.#buffers.get(name);
    if (buffer === undefined) this.#buffers.set(name, (buffer = new SharedArrayBuffer(8)));
    return buffer;
  }
}

/** What the source yields, no faster than the buckets allow. Without buckets it is the source itself. */
export function limited(
  source: AsyncIterable<Uint8Array>,
  state: BandwidthState,
  clock: Clock,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  if (state.buckets.length === 0) return source;
  const buckets = state.buckets.map((bucket) => ({ ...bucket, paid: new BigInt64Array(bucket.buffer) }));
  return throttle(source, buckets, clock, signal);
}

interface Bucket {
  readonly bytesPerSecond: number;
  readonly paid: BigInt64Array;
}

async function* throttle(
  source: AsyncIterable<Uint8Array>,
  buckets: readonly Bucket[],
  clock: Clock,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      const piece = chunk.length <= PIECE_BYTES ? chunk : chunk.subarray(at, at + PIECE_BYTES);
      const waitMs = Math.max(...buckets.map((bucket) => take(bucket, piece.length, clock.monotonicMs())));
      if (waitMs >= MIN_WAIT_MS) await clock.sleep(waitMs, signal);
      yield piece;
    }
  }
}

/** Takes bytes out of a bucket and says how long to wait for them. */
function take({ bytesPerSecond, paid }: Bucket, bytes: number, nowMs: number): number {
  const now = BigInt(Math.round(nowMs * 1e6));
  const floor = now - BigInt(BURST_MS) * NS_PER_MS;
  const price = BigInt(Math.ceil((bytes * 1e9) / bytesPerSecond));
  for (;;) {
    const before = Atomics.load(paid, 0);
    const from = before < floor ? floor : before;
    if (Atomics.compareExchange(paid, 0, before, from + price) !== before) continue;
    return Number(from + price - now) / 1e6;
  }
}
