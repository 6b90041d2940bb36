/** One holder per key at a time, first come first served; keys nobody waits for cost nothing. */
import { withSignal } from "./abort.ts";

export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();

  /** How many keys are held or waited for. */
  get size(): number {
    return this.#tails.size;
  }

  /** Runs `body` alone for `key`. A waiter whose signal fires gives up its place without disturbing the queue. */
  async run<T>(key: string, body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: mine, resolve: release } = Promise.withResolvers<void>();
    const tail = before.then(() => mine);
    this.#tails.set(key, tail);
    try {
      await withSignal(before, signal);
      return await body();
    } finally {
      release();
      void tail.then(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      });
    }
  }
}
