/** A clock that stands still until a test moves it. */
import { abortReason } from "./abort.ts";
import type { Clock } from "./clock.ts";

interface Sleeper {
  readonly atMs: number;
  readonly wake: () => void;
}

export class ManualClock implements Clock {
  #elapsedMs = 0;
  readonly #startMs: number;
  readonly #sleepers = new Set<Sleeper>();

  constructor(startMs = 1_700_000_000_000) {
    this.#startMs = startMs;
  }

  nowMs(): number {
    return this.#startMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  /** How many sleeps wait for the clock to move. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper: Sleeper = { atMs: this.#elapsedMs + ms, wake: resolve };
    this.#sleepers.add(sleeper);
    signal?.addEventListener(
      "abort",
      () => {
        if (this.#sleepers.delete(sleeper)) reject(abortReason(signal));
      },
      { once: true },
    );
    return promise;
  }

  /** Moves time on and wakes, in order, every sleep that has run out. */
  advance(ms: number): void {
    this.#elapsedMs += ms;
    const due = [...this.#sleepers].filter((s) => s.atMs <= this.#elapsedMs).sort((a, b) => a.atMs - b.atMs);
    for (const sleeper of due) {
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
  }
}
