/**
 * One webhook, sent by this controller for as long as it has it: in the order of the event feed, one request at a time, again and
 * again until the receiver takes it, the event is too old, or the receiver says that it wants no more.
 *
 * Invariants:
 *  1. The place moves in the transaction that records the answer; a controller that dies between the two sends again, under the
 *     same id. Nothing is passed over that was not taken, told as a gap, or not wanted.
 *  2. Every write is of the epoch under which the webhook was taken up: one that was taken over from stops at its next write.
 *  3. What is lost to the receiver (dropped by retention, too old) is told to it before anything that followed.
 *  4. No transaction is open while a request is: it would hold back every feed.
 */
import { backoffMs, StatusError, type Backoff, type Clock, type Failpoint, type Logger, type Random } from "@berth/base"; // prettier-ignore
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  goneBefore,
  insertEvents,
  progressWebhook,
  recordDelivery,
  storeTime,
  takeUpWebhook,
  webhookPosition,
  webhookSpec,
  type Feed,
  type FeedEvent,
  type Store,
  type WebhookProgress,
  type WebhookRow,
} from "@berth/store";
import { WEBHOOK_FAILPOINT } from "../failpoints.ts";
import type { WebhookMetrics } from "../metrics.ts";
import { sleepUnless } from "../loop/sleep.ts";
import { eventsDelivery, gapDelivery, nextChunk, type Delivery } from "./delivery.ts";
import { Keeper } from "./keeper.ts";
import { secretsOf } from "./secrets.ts";
import { makeSelection, type Selection } from "./selection.ts";
import type { Sender, SendResult } from "./send.ts";

export interface OutboundDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  readonly sender: Sender;
  readonly metrics: WebhookMetrics;
  readonly feed: Feed<FeedEvent>;
  readonly storeEpoch: string;
  /** Postgres' when left out. */
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface OutboundConfig {
  readonly secretsDirectory?: string | undefined;
  readonly backoff: Backoff;
  /** How soon a place is kept to which nothing was sent. */
  readonly keepMs: number;
}

export const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_MAX_AGE_MS = 3 * 86_400_000;

/** The webhook has changed, or somebody else has it. */
class NoLongerOurs extends Error {}

export class Outbound {
  readonly #deps: OutboundDeps;
  readonly #config: OutboundConfig;
  readonly #signal: AbortSignal;
  readonly #selection: Selection;
  readonly #maxAgeMs: number;
  readonly #batch: number;
  #row: WebhookRow;

  private constructor(deps: OutboundDeps, config: OutboundConfig, row: WebhookRow, signal: AbortSignal) {
    const spec = webhookSpec(row);
    this.#deps = deps;
    this.#config = config;
    this.#row = row;
    this.#signal = signal;
    this.#selection = makeSelection(row, spec);
    this.#maxAgeMs = spec.maxAge === undefined ? DEFAULT_MAX_AGE_MS : durationMs(spec.maxAge);
    this.#batch = Math.max(1, spec.batch);
  }

  /** `idle`: there is nothing to do for it until it changes. `again`: somebody wrote to it meanwhile, or the signal fired. */
  static async run(
    deps: OutboundDeps,
    config: OutboundConfig,
    uid: string,
    signal: AbortSignal,
  ): Promise<"idle" | "again"> {
    const row = await takeUpWebhook(deps.store.db, uid);
    if (row === undefined || row.goneAt !== null || webhookSpec(row).suspend) return "idle";
    try {
      await new Outbound(deps, config, row, signal).#follow();
      return signal.aborted ? "again" : "idle";
    } catch (error) {
      if (!(error instanceof NoLongerOurs) && !signal.aborted) throw error;
      return "again";
    }
  }

  async #follow(): Promise<void> {
    const { feed, store } = this.#deps;
    await this.#noteRetention();
    if (!(await this.#deliver([]))) return;
    // What was passed without sending is kept a while later, also when nothing follows; never beside another write.
    const keeper = new Keeper(this.#config.keepMs, (place) => this.#write(place));
    try {
      for await (const batch of feed.follow(webhookPosition(this.#row), this.#signal)) {
        await keeper.rest();
        if (!(await this.#deliver(await this.#selection.of(store.db, batch)))) return;
        const last = batch.at(-1)!;
        await keeper.passed({ position: last.position, passedUntil: last.event.storedAt });
      }
    } finally {
      await keeper[Symbol.asyncDispose]();
    }
  }

  get #origin() {
    return { row: this.#row, storeEpoch: this.#deps.storeEpoch, batch: this.#batch };
  }

  /** True when all of it was taken or given up; false when nothing more is to be sent. */
  async #deliver(events: readonly FeedEvent[]): Promise<boolean> {
    for (let left = events; left.length > 0 || gapDelivery(this.#origin) !== undefined;) {
      await this.#untilNextAttempt();
      left = await this.#withoutOld(left);
      const gap = gapDelivery(this.#origin);
      const chunk = gap === undefined ? nextChunk(this.#origin, left) : [];
      if (gap === undefined && chunk.length === 0) return true;
      const delivery = gap ?? (await this.#begin(chunk));
      const at = await this.#now();
      const result = await this.#send(delivery, at);
      this.#deps.failpoint(WEBHOOK_FAILPOINT);
      await this.#record(delivery, at, result, chunk);
      if (result.outcome === "Gone") return false;
      if (result.outcome === "Delivered") left = left.slice(chunk.length);
    }
    return true;
  }

  /** Where a batch ends is kept before it is first sent. */
  async #begin(events: readonly FeedEvent[]): Promise<Delivery> {
    if (this.#batch > 1) await this.#write({ batchEnd: events.at(-1)!.position });
    return eventsDelivery(this.#origin, events);
  }

  async #send({ id, message }: Delivery, at: Date): Promise<SendResult> {
    const { url, headers, timeout } = webhookSpec(this.#row);
    try {
      const secrets = await secretsOf(this.#row, this.#config.secretsDirectory, at);
      const timeoutMs = timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMs(timeout);
      return await this.#deps.sender.send({ url, headers, timeoutMs, secrets, id, message }, this.#signal);
    } catch (error) {
      if (!(error instanceof StatusError) || error.reason !== "WEBHOOK_SECRET_UNUSABLE") throw error;
      return { outcome: "Failed", code: 0, message: error.message, body: "", tookMs: 0 };
    }
  }

  async #record(delivery: Delivery, at: Date, result: SendResult, events: readonly FeedEvent[]): Promise<void> {
    const { outcome, code, message, tookMs } = result;
    const attempt = this.#row.failures + 1;
    const progress = outcome === "Delivered" ? this.#taken(at, events) : this.#failed(at, result, events);
    const row = await this.#deps.store.transaction(async (tx) => {
      const written = await progressWebhook(tx, this.#row, progress);
      if (written === undefined) return undefined;
      const { id: deliveryId, events: count } = delivery;
      const base = { webhookUid: written.uid, deliveryId, attempt, at, tookMs, events: count };
      await recordDelivery(tx, { ...base, code, outcome, message });
      if (outcome === "Gone") await insertEvents(tx, [eventOf(written, "gone", "Gone", message)]);
      else if (outcome !== "Delivered" && attempt === TOLD_FAILURE)
        await insertEvents(tx, [eventOf(written, "failing", "Failing", message)]);
      else if (outcome === "Delivered" && attempt > TOLD_FAILURE)
        await insertEvents(tx, [eventOf(written, "recovered", "Recovered", `after ${attempt - 1} failures`)]);
      return written;
    });
    this.#row = row ?? noLongerOurs();
    this.#deps.metrics.webhookSent(outcome, delivery.events, tookMs / 1_000);
  }

  #taken(at: Date, events: readonly FeedEvent[]): WebhookProgress {
    const last = events.at(-1);
    return {
      ...(last && { position: last.position, passedUntil: last.event.storedAt }),
      delivered: this.#row.delivered + events.length,
      lastSuccessAt: at,
      failures: 0,
      failingSince: null,
      nextAttemptAt: null,
      pendingSince: null,
      ...(last === undefined ? { gapToldAt: at } : {}),
    };
  }

  #failed(at: Date, { outcome, message, retryAfterMs = 0 }: SendResult, events: readonly FeedEvent[]): WebhookProgress {
    const failures = this.#row.failures + 1;
    const waitMs = Math.max(retryAfterMs, backoffMs(this.#config.backoff, Math.min(failures, 32), this.#deps.random));
    const [first] = events;
    return {
      failures,
      lastFailureAt: at,
      lastError: message,
      failingSince: this.#row.failingSince ?? at,
      ...(outcome === "Gone"
        ? { goneAt: at, nextAttemptAt: null }
        : { nextAttemptAt: new Date(at.getTime() + waitMs) }),
      ...(first && { pendingSince: first.event.storedAt }),
    };
  }

  /** By Postgres' clock (ADR 24), as another controller may have written when to try again. */
  async #now(): Promise<Date> {
    const { clock, store } = this.#deps;
    return clock === undefined ? await storeTime(store.db) : new Date(clock.nowMs());
  }

  /** Never longer than the longest wait there is. */
  async #untilNextAttempt(): Promise<void> {
    const { nextAttemptAt } = this.#row;
    if (nextAttemptAt !== null) {
      const waitMs = Math.min(nextAttemptAt.getTime() - (await this.#now()).getTime(), 3_600_000);
      if (waitMs > 0) await sleepUnless(this.#signal, waitMs);
    }
    this.#signal.throwIfAborted();
  }

  /** While it fails: without the events that have waited for too long. They are told of. */
  async #withoutOld(events: readonly FeedEvent[]): Promise<readonly FeedEvent[]> {
    if (this.#row.failures === 0 || events.length === 0) return events;
    const oldestMs = (await storeTime(this.#deps.store.db)).getTime() - this.#maxAgeMs;
    const keep = events.findIndex(({ event }) => event.storedAt.getTime() > oldestMs);
    const old = keep < 0 ? events : events.slice(0, keep);
    if (old.length === 0) return events;
    const [first, last] = [old[0]!, old.at(-1)!];
    const gap = this.#gap("MaxAge", first.event.storedAt, last.event.storedAt, old.length);
    const givenUp = this.#row.givenUp + old.length;
    await this.#write({ position: last.position, passedUntil: last.event.storedAt, givenUp, ...gap });
    this.#deps.metrics.webhookGaveUp(old.length);
    return keep < 0 ? [] : events.slice(keep);
  }

  async #noteRetention(): Promise<void> {
    const gone = await goneBefore(this.#deps.store.db, this.#row);
    if (gone === undefined) return;
    this.#deps.logger.warn({ webhook: `${this.#row.namespace}/${this.#row.name}` }, "events were dropped by retention before they were sent"); // prettier-ignore
    const gap = this.#gap("Retention", this.#row.passedUntil, gone.until, 0);
    await this.#write({ position: gone.position, passedUntil: gone.until, ...gap });
  }

  /** One that was not told yet becomes longer. */
  #gap(gapReason: string, from: Date, gapUntil: Date, count: number): WebhookProgress {
    const untold = this.#row.gapReason !== null && this.#row.gapToldAt === null;
    const gapFrom = untold && this.#row.gapFrom !== null ? this.#row.gapFrom : from;
    return { gapReason, gapFrom, gapUntil, gapCount: (untold ? this.#row.gapCount : 0) + count, gapToldAt: null };
  }

  async #write(progress: WebhookProgress): Promise<void> {
    this.#row = (await progressWebhook(this.#deps.store.db, this.#row, progress)) ?? noLongerOurs();
  }
}

/** One failure is no news; these are. */
const TOLD_FAILURE = 5;

function noLongerOurs(): never {
  throw new NoLongerOurs("the webhook has changed, or another controller has it");
}

function eventOf({ namespace, name, uid }: WebhookRow, what: string, reason: string, message: string) {
  const severity = what === "recovered" ? ("Normal" as const) : ("Warning" as const);
  return { namespace, topic: `/webhooks/${what}`, kind: "Webhook" as const, name, uid, severity, reason, message };
}
