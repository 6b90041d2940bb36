/**
 * One reader of a feed per controller, and any number of followers.
 *
 * The reader is woken by NOTIFY, polls as a fallback, and keeps the newest rows in a ring. A follower is only a position:
 * while the ring reaches back to it, it is served from memory, otherwise from the table. So a slow follower costs nothing but
 * its own delay, and none is ever cut off or skipped over.
 *
 * While nobody follows nothing is read: every row that is written would be read again. The first follower finds an empty ring,
 * which begins at the moment of its coming; what is older comes from the table.
 */
import { anySignal, Lifetime, StatusError, systemClock, withSignal, type Clock, type Logger } from "@berth/base";
import type { Tx } from "../database.ts";
import type { Store } from "../open.ts";
import { storeError } from "../postgres-error.ts";
import { checkNotPruned, comparePositions, currentPosition, type FeedName, type Position } from "./position.ts";
import { readChanges, readEvents, type Change, type FeedEvent, type FeedPage } from "./read.ts";
import { CHANGES_CHANNEL, EVENTS_CHANNEL } from "./record.ts";

export interface Feed<T> extends AsyncDisposable {
  /**
   * Everything after a position (from {@link currentPosition}, {@link parseCursor} or an item), in order, batch by batch,
   * until the signal fires or the feed is disposed.
   */
  follow(after: Position, signal?: AbortSignal): AsyncIterable<readonly T[]>;
}

export interface FeedDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface FeedConfig {
  /** How long a missed notification may go unnoticed. Default 1 s. */
  readonly pollMs?: number;
  /** Default 10,000 rows. */
  readonly ringSize?: number;
}

interface Item {
  readonly position: Position;
}

const BATCH = 1_000;
/** How soon to look again while committed rows wait for an older transaction. */
const PENDING_MS = 15;
const RETRY_MS = 500;

/** Changes of resources. */
export function startChangeFeed(
  deps: FeedDeps,
  config?: FeedConfig,
  options?: { signal?: AbortSignal },
): Promise<Feed<Change>> {
  return startFeed(deps, "changes", CHANGES_CHANNEL, readChanges, config, options?.signal);
}

export function startEventFeed(
  deps: FeedDeps,
  config?: FeedConfig,
  options?: { signal?: AbortSignal },
): Promise<Feed<FeedEvent>> {
  return startFeed(deps, "events", EVENTS_CHANNEL, readEvents, config, options?.signal);
}

async function startFeed<T extends Item>(
  deps: FeedDeps,
  feed: FeedName,
  channel: string,
  read: (tx: Tx, after: Position, limit: number) => Promise<FeedPage<T>>,
  config: FeedConfig = {},
  signal?: AbortSignal,
): Promise<Feed<T>> {
  const { store, logger, clock = systemClock } = deps;
  const { pollMs = 1_000, ringSize = 10_000 } = config;
  const lifetime = new Lifetime(signal);
  let head = await currentPosition(store.db);
  /** Rows after `ringStart`, up to `head`, without a gap. */
  let ring: T[] = [];
  let ringStart = head;
  let rung = Promise.withResolvers<void>();
  let grown = Promise.withResolvers<void>();
  let followers = 0;
  let followed = Promise.withResolvers<void>();
  /** The ring reaches up to now: it has been read on since it began. */
  let reading = false;

  const takeUp = (items: readonly T[]): void => {
    if (items.length === 0) return;
    ring.push(...items);
    head = items.at(-1)!.position;
    if (ring.length > ringSize * 1.25) {
      const cut = ring.length - ringSize;
      ringStart = ring[cut - 1]!.position;
      ring = ring.slice(cut);
    }
    grown.resolve();
    grown = Promise.withResolvers<void>();
  };

  /** Waits for a follower; the ring begins anew. */
  const begin = async (ending: AbortSignal): Promise<void> => {
    await withSignal(followed.promise, ending);
    const position = await currentPosition(store.db);
    ring = [];
    ringStart = head = position;
    reading = true;
    // Those who wait for more are to see that what they have not got yet is in the table.
    grown.resolve();
    grown = Promise.withResolvers<void>();
  };

  const comeToFollow = (): Disposable => {
    followers += 1;
    followed.resolve();
    return {
      [Symbol.dispose]() {
        followers -= 1;
        if (followers === 0) followed = Promise.withResolvers<void>();
      },
    };
  };

  const rungOrElapsed = async (bell: Promise<void> | undefined, waitMs: number, ending: AbortSignal): Promise<void> => {
    const stop = new AbortController();
    const elapsed = clock.sleep(waitMs, anySignal(ending, stop.signal)).catch(() => undefined);
    await Promise.race(bell === undefined ? [elapsed] : [elapsed, bell]);
    stop.abort();
  };

  lifetime.own(await store.listen(channel, () => rung.resolve()));
  lifetime.loop(
    async (ending) => {
      while (!ending.aborted) {
        rung = Promise.withResolvers<void>();
        let waitMs = pollMs;
        try {
          if (followers === 0) reading = false;
          if (!reading) await begin(ending);
          const page = await read(store.db, head, BATCH);
          takeUp(page.items);
          if (page.items.length === BATCH) continue;
          if (page.pending) waitMs = PENDING_MS;
        } catch (error) {
          if (ending.aborted) return;
          logger.warn(
            { err: StatusError.from(error), channel },
            "reading the change feed failed; it will be tried again",
          );
          waitMs = RETRY_MS;
        }
        await rungOrElapsed(waitMs === PENDING_MS ? undefined : rung.promise, waitMs, ending);
      }
    },
    (error) => logger.error({ err: error, channel }, "the change feed has ended"),
  );

  /** What follows a position, up to `target`: from the ring, or from the table for a follower that is far behind. */
  const nextBatch = async (after: Position, target: Position): Promise<readonly T[]> => {
    if (comparePositions(after, ringStart) >= 0) {
      const from = firstAfter(ring, after);
      return ring.slice(from, from + BATCH);
    }
    try {
      await checkNotPruned(store.db, feed, after);
      const page = await read(store.db, after, BATCH);
      return page.items.filter((item) => comparePositions(item.position, target) <= 0);
    } catch (error) {
      throw storeError(error);
    }
  };

  return {
    async *follow(after, followerSignal) {
      const ending = anySignal(lifetime.signal, followerSignal);
      using _following = comeToFollow();
      let position = after;
      while (!ending.aborted) {
        const target = head;
        const wake = grown.promise;
        if (comparePositions(position, target) < 0) {
          const items = await withSignal(nextBatch(position, target), ending).catch(ignoreIf(ending));
          // Nothing up to the target: positions need not be rows (a list's is not).
          position = items.at(-1)?.position ?? target;
          if (items.length > 0) yield items;
        } else await withSignal(wake, ending).catch(ignoreIf(ending));
      }
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

/** The index of the first item after a position; items are in order. */
function firstAfter(items: readonly Item[], position: Position): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (comparePositions(items[middle]!.position, position) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function ignoreIf(ending: AbortSignal): (error: unknown) => [] {
  return (error) => {
    if (ending.aborted) return [];
    throw error;
  };
}
