/** What a user of the API waits, while something else goes on: requests at a fixed rate, whether or not earlier ones have been answered. */
import { setTimeout as delay } from "node:timers/promises";

export interface ApiProbe {
  /** Ends it; the latencies, in milliseconds, sorted. */
  stop(): Promise<readonly number[]>;
}

/** The requests take turns. One that fails is an error of the benchmark. */
export function startApiProbe(requests: readonly (() => Promise<unknown>)[], everyMs: number): ApiProbe {
  const latencies: number[] = [];
  const pending = new Set<Promise<void>>();
  let failure: unknown;
  let ended = false;
  const ask = async (request: () => Promise<unknown>): Promise<void> => {
    const start = performance.now();
    try {
      await request();
      latencies.push(performance.now() - start);
    } catch (error) {
      failure ??= error;
    }
  };
  const running = (async () => {
    for (let turn = 0; !ended; turn += 1) {
      const asked = ask(requests[turn % requests.length]!);
      pending.add(asked);
      void asked.finally(() => pending.delete(asked));
      await delay(everyMs);
    }
  })();
  return {
    async stop() {
      ended = true;
      await running;
      await Promise.all(pending);
      if (failure !== undefined) throw failure;
      return latencies.toSorted((a, b) => a - b);
    },
  };
}

/** `share` 0.99 for the 99th percentile of sorted values. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
