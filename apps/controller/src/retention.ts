/**
 * Keeps events and history for as long as the configuration says: makes partitions ahead of time and drops those that are too
 * old. One controller does it, by an advisory lock; one that dies amid it leaves what the next one finishes.
 */
import { Lifetime, StatusError, type Logger } from "@berth/base";
import { makePartitions, PRUNE_LOCK, pruneDecisions, retirePartition, type FeedName, type Store } from "@berth/store";
import { KeptLock } from "./loop/kept-lock.ts";
import { startLoop } from "./loop/loop.ts";

export interface RetentionConfig {
  /** How long events are kept. */
  readonly eventsMs: number;
  /** How far back what was can be told, and a watch may resume. */
  readonly historyMs: number;
  readonly intervalMs?: number;
}

/** So many partitions hold what is kept: few, for each costs every query a little; what is too old waits for its partition's end. */
const PARTITIONS = 8;
/** Of what is not partitioned, a little at a time. */
const ROWS = 5_000;
const HOUR_MS = 3_600_000;

export function startRetention(
  { store, logger }: { readonly store: Store; readonly logger: Logger },
  config: RetentionConfig,
  options: { readonly signal?: AbortSignal } = {},
): AsyncDisposable {
  const { eventsMs, historyMs, intervalMs = 60_000 } = config;
  const lifetime = new Lifetime(options.signal);
  const lock = lifetime.own(new KeptLock(store, PRUNE_LOCK));
  const keep = async (feed: FeedName, maxAgeMs: number): Promise<boolean> => {
    const spanMs = Math.max(HOUR_MS, Math.round(maxAgeMs / PARTITIONS));
    await store.transaction((tx) => makePartitions(tx, feed, spanMs, 2 * spanMs));
    try {
      const retired = await retirePartition(store, feed, maxAgeMs);
      if (retired !== undefined) logger.info({ feed, ...retired }, "a partition that was too old was dropped");
      return retired !== undefined;
    } catch (error) {
      logger.warn({ err: StatusError.from(error), feed }, "a partition could not be dropped; it will be tried again");
      return false;
    }
  };
  lifetime.own(
    startLoop(
      { logger },
      {
        name: "retention",
        async round() {
          if ((await lock.held()) === undefined) return intervalMs;
          const history = await keep("changes", historyMs);
          const events = await keep("events", eventsMs);
          const decisions = await store.transaction((tx) => pruneDecisions(tx, ROWS));
          return history || events || decisions === ROWS ? "again" : intervalMs;
        },
      },
      lifetime.signal,
    ),
  );
  return lifetime;
}
