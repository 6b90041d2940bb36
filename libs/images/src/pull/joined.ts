/**
 * Callers that want the same thing share one run of it. The run ends early only when every one of them has given up; each
 * hears progress and gets the result, or its own cancellation.
 */
import { StatusError, throwIfAborted, withSignal } from "@berth/base";

interface Run<T, P> {
  readonly result: Promise<T>;
  readonly abort: AbortController;
  readonly listeners: Set<(progress: P) => void>;
  callers: number;
}

export interface JoinOptions<P> {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: P) => void) | undefined;
}

export class JoinedRuns<T, P> {
  readonly #runs = new Map<string, Run<T, P>>();

  /** @param start begins the run, for the first caller of a key */
  async join(
    key: string,
    options: JoinOptions<P>,
    start: (signal: AbortSignal, tell: (progress: P) => void) => Promise<T>,
  ): Promise<T> {
    const { signal, onProgress } = options;
    throwIfAborted(signal);
    const run = this.#runs.get(key) ?? this.#start(key, start);
    run.callers += 1;
    if (onProgress !== undefined) run.listeners.add(onProgress);
    try {
      return await withSignal(run.result, signal);
    } catch (error) {
      // The caller gave up: if it was the last, what the run holds is gone before it hears of it.
      if (signal?.aborted && run.callers === 1) {
        this.#forget(key, run);
        run.abort.abort(new StatusError("CANCELLED", "pull cancelled"));
        await run.result.catch(() => undefined);
      }
      throw error;
    } finally {
      run.callers -= 1;
      if (onProgress !== undefined) run.listeners.delete(onProgress);
    }
  }

  /** Ends all runs and waits for them. */
  async abortAll(reason: StatusError): Promise<void> {
    const runs = [...this.#runs.values()];
    for (const run of runs) run.abort.abort(reason);
    await Promise.allSettled(runs.map(({ result }) => result));
  }

  #start(key: string, start: (signal: AbortSignal, tell: (progress: P) => void) => Promise<T>): Run<T, P> {
    const abort = new AbortController();
    const listeners = new Set<(progress: P) => void>();
    const tell = (progress: P): void => {
      for (const listener of listeners) listener(progress);
    };
    // On a later turn, so that the first caller listens before there is anything to hear.
    const result = Promise.resolve().then(() => start(abort.signal, tell));
    const run: Run<T, P> = { result, abort, listeners, callers: 0 };
    this.#runs.set(key, run);
    const forget = (): void => this.#forget(key, run);
    result.then(forget, forget);
    return run;
  }

  #forget(key: string, run: Run<T, P>): void {
    if (this.#runs.get(key) === run) this.#runs.delete(key);
  }
}
