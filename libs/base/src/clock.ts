/**
 * Time and chance as dependencies, so that tests can own both.
 *
 * `nowMs` is wall clock and for people only; `monotonicMs` is CLOCK_MONOTONIC and never orders events between hosts.
 */
import { abortReason } from "./abort.ts";

export interface Clock {
  /** Milliseconds since 1970, for display and records. */
  nowMs(): number;
  /** Milliseconds of a clock that never goes back, for durations. */
  monotonicMs(): number;
  /** Rejects with the signal's reason (CANCELLED) when it fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(abortReason(signal));
      // Not timers/promises: it makes an error of its own, with a stack, for each sleep that is cut short.
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(abortReason(signal!));
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, ms);
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
};

/** A number in [0, 1), as Math.random gives it. */
export type Random = () => number;

/** A small seeded generator (mulberry32): the same seed gives the same run. Not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
