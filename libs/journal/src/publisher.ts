/**
 * Publishes the journal, in order and at least once, until the controller says that it has stored it (D4).
 *
 * An entry waits a little for those that follow it closely, an interim one a little longer for what it leads to: a message costs
 * the broker and the controller more than the entries in it.
 *
 * One batch is in flight at a time, so a failure never lets a later entry pass an earlier one. What the broker has taken
 * is not yet safe: only the controller's watermark is. The cursor therefore goes back to the watermark when the publisher
 * starts, and when everything was published and the watermark has not moved for `stallMs`: a broker that was wiped, or
 * lied, loses nothing. The wait doubles while nothing moves, for a controller that is away must not fill the broker with
 * copies. Earlier epochs go first.
 */
import {
  backoffMs,
  Lifetime,
  silentLogger,
  StatusError,
  systemClock,
  withSignal,
  type Backoff,
  type Clock,
  type Logger,
  type Random,
} from "@berth/base";
import type { Entry, EpochState, Journal } from "./journal.ts";

export interface Batch {
  readonly epoch: string;
  /** Of one epoch, in order, without a gap, at least one. */
  readonly entries: readonly Entry[];
  /**
   * How often the cursor has gone back before this batch. To be made part of a message's id: a broker that dropped the
   * message but still knows its id would otherwise take the copy for a duplicate.
   */
  readonly pass: number;
}

export interface JournalTransport {
  /** Resolves when the broker has taken the batch; a rejection, or the signal, means that it may or may not have. */
  publish(batch: Batch, signal: AbortSignal): Promise<void>;
}

export interface PublisherDeps {
  readonly journal: Journal;
  readonly transport: JournalTransport;
  readonly clock?: Clock;
  readonly logger?: Logger;
  readonly random?: Random;
}

export interface PublisherConfig {
  readonly batchEntries?: number;
  readonly batchBytes?: number;
  /** How long an entry waits for others to be published with it. Default 0. */
  readonly gatherMs?: number;
  /** The same of interim entries. Default 0. */
  readonly gatherInterimMs?: number;
  readonly backoff?: Backoff;
  /** How long a watermark may stand still below what was published. */
  readonly stallMs?: number;
  readonly maxStallMs?: number;
}

export interface JournalPublisher extends AsyncDisposable {
  /** The controller has stored `epoch` up to `storedSeq` (a lease's answer says so). Prunes. */
  acknowledge(epoch: string, storedSeq: number): Promise<void>;
  /** How many entries the broker has not taken yet, and how many the controller has not stored yet. */
  backlog(): { readonly unpublished: number; readonly unstored: number };
}

type ResolvedConfig = Required<PublisherConfig>;

const DEFAULTS: ResolvedConfig = {
  batchEntries: 500,
  batchBytes: 512 * 1024,
  gatherMs: 0,
  gatherInterimMs: 0,
  backoff: { initialMs: 200, maxMs: 15_000, factor: 2 },
  stallMs: 30_000,
  maxStallMs: 600_000,
};

export function startPublisher(
  deps: PublisherDeps,
  config: PublisherConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): JournalPublisher {
  return new Publisher(deps, { ...DEFAULTS, ...config }, options.signal);
}

class Publisher implements JournalPublisher {
  readonly #journal: Journal;
  readonly #transport: JournalTransport;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #random: Random;
  readonly #config: ResolvedConfig;
  readonly #lifetime: Lifetime;
  /** The last seq of each epoch that the broker has taken since the cursor last went back. */
  readonly #published = new Map<string, number>();
  #pass = 0;
  #failures = 0;
  #stallMs: number;
  /** When the broker last had everything and the watermark began to be waited for; undefined while publishing. */
  #waitingSinceMs: number | undefined;
  #wake = Promise.withResolvers<void>();
  /** When what was appended since the last batch was read is to be published, by the monotonic clock; undefined: nothing was. */
  #dueMs: number | undefined;
  /** A wait that is under way, by the monotonic clock. */
  #alarm: { readonly atMs: number; readonly rung: Promise<unknown> } | undefined;

  constructor(deps: PublisherDeps, config: ResolvedConfig, signal: AbortSignal | undefined) {
    this.#journal = deps.journal;
    this.#transport = deps.transport;
    this.#clock = deps.clock ?? systemClock;
    this.#logger = deps.logger ?? silentLogger;
    this.#random = deps.random ?? Math.random;
    this.#config = config;
    this.#stallMs = config.stallMs;
    this.#lifetime = new Lifetime(signal);
    this.#lifetime.own(deps.journal.onAppend(({ interim }) => this.#appended(interim)));
    this.#lifetime.loop(
      (ending) => this.#run(ending),
      (error) => this.#logger.error({ err: error }, "the journal's publisher has ended"),
    );
  }

  async acknowledge(epoch: string, storedSeq: number): Promise<void> {
    const moved = await this.#journal.acknowledge(epoch, storedSeq);
    if (!moved) return;
    this.#stallMs = this.#config.stallMs;
    const waiting =
      this.#waitingSinceMs !== undefined &&
      this.#journal.epochs().some((state) => this.#cursor(state) > state.storedSeq);
    this.#waitingSinceMs = waiting ? this.#clock.monotonicMs() : undefined;
    this.#wake.resolve();
  }

  backlog(): { readonly unpublished: number; readonly unstored: number } {
    let unpublished = 0;
    let unstored = 0;
    for (const state of this.#journal.epochs()) {
      unpublished += state.headSeq - this.#cursor(state);
      unstored += state.headSeq - state.storedSeq;
    }
    return { unpublished, unstored };
  }

  /** Gives up the batch in flight; what the broker took of it comes again after the next start. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifetime[Symbol.asyncDispose]();
  }

  async #run(signal: AbortSignal): Promise<void> {
    // Not before the caller holds the publisher: its transport may want to acknowledge through it.
    await Promise.resolve();
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers<void>();
      try {
        await this.#gather(signal);
        const batch = this.#nextBatch();
        if (batch === undefined) await this.#idle(signal);
        else await this.#publish(batch, signal);
        this.#failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        await this.#backOff(error, signal);
      }
    }
  }

  #appended(interim: boolean): void {
    const { gatherMs, gatherInterimMs } = this.#config;
    const dueMs = this.#clock.monotonicMs() + (interim ? gatherInterimMs : gatherMs);
    if (this.#dueMs !== undefined && this.#dueMs <= dueMs) return;
    this.#dueMs = dueMs;
    this.#wake.resolve();
  }

  /** Waits until what was appended is due; what is there since before is. */
  async #gather(signal: AbortSignal): Promise<void> {
    while (this.#dueMs !== undefined) {
      const leftMs = this.#dueMs - this.#clock.monotonicMs();
      if (leftMs <= 0) break;
      // Not the alarm of `#woken`: that one is far off, and kept.
      await withSignal(Promise.race([this.#wake.promise, this.#clock.sleep(leftMs)]), signal);
      this.#wake = Promise.withResolvers<void>();
    }
    this.#dueMs = undefined;
  }

  #nextBatch(): Batch | undefined {
    for (const state of this.#journal.epochs()) {
      const cursor = this.#cursor(state);
      if (cursor >= state.headSeq) continue;
      const { batchEntries, batchBytes } = this.#config;
      const entries = this.#journal.readEpoch(state.epoch, cursor + 1, batchEntries, batchBytes);
      if (entries.length > 0) return { epoch: state.epoch, entries, pass: this.#pass };
    }
    return undefined;
  }

  async #publish(batch: Batch, signal: AbortSignal): Promise<void> {
    await this.#transport.publish(batch, signal);
    this.#published.set(batch.epoch, batch.entries.at(-1)!.seq);
  }

  /** Everything is published: waits for an entry, a watermark, or the moment to doubt the broker. */
  async #idle(signal: AbortSignal): Promise<void> {
    const states = this.#journal.epochs();
    this.#forgetEnded(states);
    if (states.every((state) => state.storedSeq === state.headSeq)) {
      this.#waitingSinceMs = undefined;
      await this.#woken(signal);
      return;
    }
    this.#waitingSinceMs ??= this.#clock.monotonicMs();
    const leftMs = this.#waitingSinceMs + this.#stallMs - this.#clock.monotonicMs();
    if (leftMs > 0) await this.#woken(signal, leftMs);
    else this.#rewind(states);
  }

  #rewind(states: readonly EpochState[]): void {
    this.#published.clear();
    this.#pass += 1;
    this.#waitingSinceMs = undefined;
    const stallMs = this.#stallMs;
    this.#stallMs = Math.min(this.#config.maxStallMs, this.#stallMs * 2);
    this.#logger.warn(
      { stallMs, pass: this.#pass, epochs: states },
      "published entries were not stored; publishing them again",
    );
  }

  /** Perhaps sooner: whoever is woken looks what there is to do. */
  async #woken(signal: AbortSignal, withinMs?: number): Promise<void> {
    const waits: Promise<unknown>[] = [this.#wake.promise];
    if (withinMs !== undefined) waits.push(this.#alarmWithin(withinMs, signal));
    await withSignal(Promise.race(waits), signal);
  }

  /** An entry that wakes us comes long before the alarm, as a rule: the next wait has the alarm of this one. */
  #alarmWithin(withinMs: number, signal: AbortSignal): Promise<unknown> {
    const atMs = this.#clock.monotonicMs() + withinMs;
    if (this.#alarm === undefined || this.#alarm.atMs > atMs) {
      const rung = this.#clock.sleep(withinMs, signal).catch(() => undefined);
      const alarm = { atMs, rung };
      this.#alarm = alarm;
      void rung.then(() => {
        if (this.#alarm === alarm) this.#alarm = undefined;
      });
    }
    return this.#alarm.rung;
  }

  async #backOff(cause: unknown, signal: AbortSignal): Promise<void> {
    this.#failures += 1;
    const status = StatusError.from(cause);
    const waitMs = Math.max(status.retryAfterMs ?? 0, backoffMs(this.#config.backoff, this.#failures, this.#random));
    this.#logger.warn(
      { err: status, failures: this.#failures, waitMs },
      "publishing the journal failed; it will be tried again",
    );
    await this.#clock.sleep(waitMs, signal).catch(() => undefined);
  }

  /** The last seq that needs no publishing now. */
  #cursor({ epoch, storedSeq }: EpochState): number {
    return Math.max(storedSeq, this.#published.get(epoch) ?? 0);
  }

  #forgetEnded(states: readonly EpochState[]): void {
    for (const epoch of this.#published.keys()) {
      if (!states.some((state) => state.epoch === epoch)) this.#published.delete(epoch);
    }
  }
}
