/**
 * Who owns what, and in which order it ends.
 *
 * A Lifetime collects what a program or a connection has started. Disposing it aborts its signal, then closes everything
 * in reverse order of being added, each at most once, and reports all failures together. Background loops started with
 * `loop` are awaited, so none outlives its owner.
 */
import { aborted } from "./abort.ts";

export class Lifetime implements AsyncDisposable {
  readonly #abort = new AbortController();
  readonly #closers: (() => Promise<void> | void)[] = [];
  #disposed: Promise<void> | undefined;

  constructor(parent?: AbortSignal) {
    if (parent?.aborted) this.#abort.abort(parent.reason);
    else
      parent?.addEventListener("abort", () => this.#abort.abort(parent.reason), {
        once: true,
        signal: this.#abort.signal,
      });
  }

  /** Fires when the lifetime begins to end. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Hands a resource over; it is closed with the lifetime. */
  own<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.defer(async () => {
      if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]();
      else resource[Symbol.dispose]();
    });
    return resource;
  }

  /** Registers something to do at the end. */
  defer(close: () => Promise<void> | void): void {
    this.#closers.push(close);
  }

  /** Starts a background loop that ends when the signal fires; an error that escapes it goes to `onError`. */
  loop(body: (signal: AbortSignal) => Promise<void>, onError: (error: unknown) => void): void {
    const running = body(this.signal).catch((error: unknown) => {
      if (!this.signal.aborted) onError(error);
    });
    this.defer(() => running);
  }

  /** Resolves when the lifetime begins to end. */
  ended(): Promise<void> {
    return aborted(this.signal);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#close();
    return this.#disposed;
  }

  async #close(): Promise<void> {
    this.#abort.abort();
    const failures: unknown[] = [];
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, "several resources failed to close");
  }
}
