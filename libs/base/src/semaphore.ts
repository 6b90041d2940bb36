/** At most N at a time, first come first served. */
import { abortReason, throwIfAborted } from "./abort.ts";

export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(permits: number) {
    this.#free = permits;
  }

  /** Takes a permit; the disposable gives it back, once. */
  async acquire(signal?: AbortSignal): Promise<Disposable> {
    throwIfAborted(signal);
    if (this.#free > 0) this.#free -= 1;
    else await this.#queue(signal);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        const next = this.#waiting.shift();
        if (next === undefined) this.#free += 1;
        else next();
      },
    };
  }

  async run<T>(body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    using _permit = await this.acquire(signal);
    return await body();
  }

  #queue(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const wake = (): void => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    };
    const onAbort = (): void => {
      const index = this.#waiting.indexOf(wake);
      if (index < 0) return;
      this.#waiting.splice(index, 1);
      reject(abortReason(signal!));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.push(wake);
    return promise;
  }
}
