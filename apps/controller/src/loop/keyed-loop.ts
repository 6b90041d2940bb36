/**
 * Work by key: each key at most once at a time, several keys at once, each when it is due.
 *
 * A key that is added again while it is worked on is worked on again afterwards, so no change is ever missed. A failure backs
 * off its own key and no other.
 */
import { backoffMs, Lifetime, Semaphore, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import { Bell } from "./bell.ts";

export interface KeyedLoopSpec {
  readonly name: string;
  readonly concurrency: number;
  /** Answers in how many milliseconds the key is due again though nobody adds it; undefined: not at all. */
  process(key: string, signal: AbortSignal): Promise<number | undefined>;
}

export interface KeyedLoop extends AsyncDisposable {
  add(key: string, delayMs?: number): void;
  /** Keys that are due or being worked on. */
  readonly busy: number;
}

const BACKOFF = { initialMs: 100, maxMs: 10_000, factor: 2 };

export function startKeyedLoop(
  deps: { readonly logger: Logger; readonly clock?: Clock },
  spec: KeyedLoopSpec,
  signal?: AbortSignal,
): KeyedLoop {
  return new KeyedLoopRun(deps, spec, signal);
}

class KeyedLoopRun implements KeyedLoop {
  readonly #spec: KeyedLoopSpec;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #lifetime: Lifetime;
  readonly #bell = new Bell();
  /** When each waiting key is due, by the monotonic clock. */
  readonly #due = new Map<string, number>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #failures = new Map<string, number>();

  constructor(deps: { readonly logger: Logger; readonly clock?: Clock }, spec: KeyedLoopSpec, signal?: AbortSignal) {
    this.#spec = spec;
    this.#logger = deps.logger;
    this.#clock = deps.clock ?? systemClock;
    this.#lifetime = new Lifetime(signal);
    this.#lifetime.loop(
      (ending) => this.#run(ending),
      (error) => this.#logger.error({ err: error, loop: spec.name }, `${spec.name} has ended`),
    );
  }

  add(key: string, delayMs = 0): void {
    const atMs = this.#clock.monotonicMs() + delayMs;
    const before = this.#due.get(key);
    if (before !== undefined && before <= atMs) return;
    this.#due.set(key, atMs);
    this.#bell.ring();
  }

  get busy(): number {
    const nowMs = this.#clock.monotonicMs();
    return this.#running.size + [...this.#due.values()].filter((atMs) => atMs <= nowMs).length;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifetime[Symbol.asyncDispose]();
  }

  async #run(ending: AbortSignal): Promise<void> {
    const permits = new Semaphore(this.#spec.concurrency);
    while (!ending.aborted) {
      const next = this.#nextDue();
      const waitMs = next === undefined ? 2 ** 31 - 1 : next.atMs - this.#clock.monotonicMs();
      if (next === undefined || waitMs > 0) {
        await this.#bell.wait(this.#clock, waitMs, ending);
        continue;
      }
      const permit = await permits.acquire(ending).catch(() => undefined);
      if (permit === undefined) break;
      this.#due.delete(next.key);
      const work = this.#work(next.key, ending).finally(() => {
        permit[Symbol.dispose]();
        this.#running.delete(next.key);
        this.#bell.ring();
      });
      this.#running.set(next.key, work);
    }
    await Promise.allSettled(this.#running.values());
  }

  #nextDue(): { readonly key: string; readonly atMs: number } | undefined {
    let best: { key: string; atMs: number } | undefined;
    for (const [key, atMs] of this.#due) {
      if (!this.#running.has(key) && (best === undefined || atMs < best.atMs)) best = { key, atMs };
    }
    return best;
  }

  async #work(key: string, ending: AbortSignal): Promise<void> {
    try {
      const againMs = await this.#spec.process(key, ending);
      this.#failures.delete(key);
      if (againMs !== undefined) this.add(key, againMs);
    } catch (error) {
      if (ending.aborted) return;
      const failures = (this.#failures.get(key) ?? 0) + 1;
      this.#failures.set(key, failures);
      const { name } = this.#spec;
      this.#logger.warn({ err: StatusError.from(error), key, failures }, `${name} failed; it will be tried again`);
      this.add(key, backoffMs(BACKOFF, Math.min(failures, 16)));
    }
  }
}
