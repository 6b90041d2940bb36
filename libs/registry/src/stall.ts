/**
 * Notices a transfer that trickles: fewer than so many bytes in a window of time.
 *
 * Only time in which the reader waits for the server counts, so that a slow disk is not blamed on the registry. The
 * window is four ticks; bytes are counted per tick, which costs no timer per chunk.
 */
import type { Clock } from "@berth/base";

const TICKS = 4;

export interface StallOptions {
  readonly clock: Clock;
  readonly windowMs: number;
  readonly minBytes: number;
  /** Called once, with the bytes of the last window; must make the source fail. */
  readonly onStall: (bytes: number) => void;
}

/** Yields what the source yields while watching its pace. The watch ends with the iteration, however it ends. */
export async function* watchPace(source: AsyncIterable<Uint8Array>, options: StallOptions): AsyncGenerator<Uint8Array> {
  const pace = { bytes: 0, waiting: true };
  const ended = new AbortController();
  const watching = watch(pace, options, ended.signal);
  try {
    for await (const chunk of source) {
      pace.bytes += chunk.length;
      pace.waiting = false;
      yield chunk;
      pace.waiting = true;
    }
  } finally {
    ended.abort();
    await watching;
  }
}

async function watch(
  pace: { bytes: number; readonly waiting: boolean },
  options: StallOptions,
  signal: AbortSignal,
): Promise<void> {
  let recent: number[] = [];
  for (;;) {
    try {
      await options.clock.sleep(options.windowMs / TICKS, signal);
    } catch {
      return;
    }
    recent = pace.waiting ? [...recent, pace.bytes].slice(-TICKS) : [];
    pace.bytes = 0;
    const total = recent.reduce((sum, bytes) => sum + bytes, 0);
    if (recent.length === TICKS && total < options.minBytes) {
      options.onStall(total);
      return;
    }
  }
}
