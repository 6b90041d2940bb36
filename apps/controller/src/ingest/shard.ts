/**
 * One shard's owner: takes what the nodes of the shard publish, in order, and asks for what is missing.
 *
 * A gap is filled from the node itself and the entries behind it follow. When the node does not answer, what lies behind the
 * gap is let go: the node keeps every entry until it is stored (D4), and a journal that stays ahead is fetched directly.
 */
import { create } from "@bufbuild/protobuf";
import { hasCode, KeyedLock, StatusError, type Failpoint, type Logger } from "@berth/base";
import { JournalFetchRequestSchema, type JournalBatch, type JournalFetchRequest } from "@berth/proto";
import { laggingJournals, type Store } from "@berth/store";
import type { IngestMetrics } from "../metrics.ts";
import type { Gap } from "./sequence.ts";
import { batchOf, skipLost, writeBatch, type ShardOwnership, type WriteOutcome } from "./write-batch.ts";

/** One message, from the node that the broker has proven. */
export interface Delivery {
  readonly node: string;
  readonly batch: JournalBatch;
}

export interface ShardDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: IngestMetrics;
  readonly failpoint: Failpoint;
  /** Asks a node for entries of its journal. */
  fetchJournal(node: string, request: JournalFetchRequest, signal: AbortSignal): Promise<JournalBatch>;
}

const EPOCH = /^[A-Za-z0-9_-]{1,64}$/;
const FETCH_ENTRIES = 1_000;
/** Entries that one call may fetch for one gap; what is left comes with the next. */
const MAX_FETCHES = 50;

type Batches = ReadonlyMap<string, readonly JournalBatch[]>;

export class ShardOwner {
  readonly #deps: ShardDeps;
  readonly #owner: ShardOwnership;
  readonly #signal: AbortSignal;
  /** How far each lagging journal was stored when it was first seen lagging, and since when. */
  readonly #lagging = new Map<string, { readonly storedSeq: number; readonly sinceMs: number }>();
  /** Epochs that may begin: what could be had of the one before was fetched. */
  readonly #begun = new Set<string>();
  /** One batch after the other: a transaction that waits for another's entries may be the older one, and its events come first (ADR 7). */
  readonly #writing = new KeyedLock();

  constructor(deps: ShardDeps, owner: ShardOwnership, signal: AbortSignal) {
    this.#deps = deps;
    this.#owner = owner;
    this.#signal = signal;
  }

  /** Stores what was delivered; when it returns, the messages may be acknowledged. @throws ABORTED `SHARD_TAKEN`, UNAVAILABLE */
  async store(deliveries: readonly Delivery[]): Promise<void> {
    const sound = deliveries.filter(({ node, batch }) => {
      if (EPOCH.test(batch.epoch)) return true;
      this.#deps.logger.error({ node }, "a journal message names no epoch and was dropped");
      return false;
    });
    const byNode = Map.groupBy(sound, (delivery) => delivery.node);
    await this.#storeBatches(new Map([...byNode].map(([node, group]) => [node, group.map(({ batch }) => batch)])));
  }

  /**
   * Fetches journals that have been ahead of what is stored for `lagMs` without anything new: the broker lost them. Returns how
   * many are ahead.
   */
  async catchUp(lagMs: number): Promise<number> {
    const nowMs = performance.now();
    const lagging = await laggingJournals(this.#deps.store.db, this.#owner.shard);
    const keys = new Set(lagging.map(({ node, epoch }) => `${node} ${epoch}`));
    for (const key of this.#lagging.keys()) if (!keys.has(key)) this.#lagging.delete(key);
    for (const { node, epoch, storedSeq, headSeq } of lagging) {
      const key = `${node} ${epoch}`;
      const seen = this.#lagging.get(key);
      if (seen?.storedSeq !== storedSeq) {
        this.#lagging.set(key, { storedSeq, sinceMs: nowMs });
      } else if (nowMs - seen.sinceMs >= lagMs) {
        this.#lagging.delete(key);
        await this.#fill({ node, epoch, fromSeq: storedSeq + 1, toSeq: headSeq });
      }
    }
    return lagging.length;
  }

  async #storeBatches(batches: Batches): Promise<void> {
    const outcome = await this.#write(batches);
    if (outcome.succeeding.length > 0) {
      await this.#finishEarlierEpochs(outcome);
      await this.#storeBatches(only(batches, outcome.succeeding));
      return;
    }
    await this.#fillGaps(batches, outcome.gaps);
  }

  /** Fills what can be filled, stores what follows, and again while that shows further gaps. */
  async #fillGaps(batches: Batches, gaps: readonly Gap[]): Promise<void> {
    let open = gaps;
    while (open.length > 0) {
      const filled: Gap[] = [];
      for (const gap of open) {
        this.#deps.metrics.ingested("gap", gap.toSeq - gap.fromSeq + 1);
        if (await this.#fill(gap)) filled.push(gap);
      }
      if (filled.length === 0) return;
      open = (await this.#write(only(batches, filled))).gaps;
    }
  }

  async #write(batches: Batches): Promise<WriteOutcome> {
    const { store, metrics, failpoint } = this.#deps;
    const started = performance.now();
    failpoint("ingest.before-store");
    const write = () => store.transaction((tx) => writeBatch(tx, this.#owner, batches, this.#begun));
    const outcome = await this.#writing.run("", write, this.#signal);
    if (outcome.stored > 0) failpoint("ingest.after-store");
    metrics.ingestBatch((performance.now() - started) / 1_000);
    metrics.ingested("stored", outcome.stored);
    metrics.ingested("duplicate", outcome.duplicates);
    metrics.ingested("stale", outcome.stale);
    return outcome;
  }

  /** Fetches the missing entries from the node. False when they could not all be had now. */
  async #fill(gap: Gap): Promise<boolean> {
    const { node, epoch, toSeq } = gap;
    const { store, logger } = this.#deps;
    let fromSeq = gap.fromSeq;
    for (let fetches = 0; fromSeq <= toSeq && fetches < MAX_FETCHES; fetches += 1) {
      const fetched = await this.#fetch(node, epoch, fromSeq, toSeq - fromSeq + 1);
      if (fetched === undefined) return false;
      const firstAvailable = Number(fetched.firstAvailableSeq);
      if (firstAvailable > fromSeq) {
        // Only a store that was put back can miss what the node has been told to prune.
        const lost = { node, epoch, fromSeq, toSeq: Math.min(firstAvailable - 1, toSeq) };
        logger.error({ node, epoch, fromSeq, toSeq: lost.toSeq }, "journal entries are lost");
        await store.transaction((tx) => skipLost(tx, this.#owner, lost));
        this.#begun.add(`${node} ${epoch}`);
        fromSeq = lost.toSeq + 1;
        continue;
      }
      const entries = fetched.entries.filter((entry) => Number(entry.seq) >= fromSeq);
      const last = entries.at(-1);
      if (last === undefined) return false;
      const outcome = await this.#write(new Map([[node, [batchOf(node, epoch, entries)]]]));
      if (outcome.succeeding.length > 0) {
        await this.#finishEarlierEpochs(outcome);
        continue;
      }
      fromSeq = Number(last.seq) + 1;
    }
    return fromSeq > toSeq;
  }

  async #fetch(node: string, epoch: string, fromSeq: number, count: number): Promise<JournalBatch | undefined> {
    const limit = Math.min(FETCH_ENTRIES, count);
    const request = create(JournalFetchRequestSchema, { epoch, fromSeq: BigInt(fromSeq), limit });
    try {
      const batch = await this.#deps.fetchJournal(node, request, this.#signal);
      if (batch.epoch === epoch || batch.entries.length === 0) return batch;
      return undefined;
    } catch (error) {
      if (this.#signal.aborted) throw error;
      this.#deps.logger.info(
        { node, epoch, fromSeq, error: StatusError.from(error).message },
        "a node's journal could not be fetched; it will be tried again",
      );
      return undefined;
    }
  }

  /** A new epoch begins after all that can be had of the one before (a data root that is gone has nothing left). */
  async #finishEarlierEpochs(outcome: WriteOutcome): Promise<void> {
    for (const { node, previous, epoch } of outcome.succeeding) {
      this.#begun.add(`${node} ${epoch}`);
      try {
        await this.#fill({ ...previous, fromSeq: previous.storedSeq + 1, toSeq: Number.MAX_SAFE_INTEGER });
      } catch (error) {
        if (hasCode(error, "ABORTED", "CANCELLED")) throw error;
        this.#deps.logger.warn(
          { err: StatusError.from(error), node, epoch: previous.epoch },
          "an earlier epoch stays unfinished",
        );
      }
    }
  }
}

function only(batches: Batches, places: readonly { readonly node: string }[]): Batches {
  const nodes = new Set(places.map(({ node }) => node));
  return new Map([...batches].filter(([node]) => nodes.has(node)));
}
