/** Forgets what watches and events no longer need to remember, a little at a time. One controller does it. */
import { Lifetime, type Logger } from "@berth/base";
import { PRUNE_LOCK, pruneDecisions, pruneFeed, type HeldLock, type Store } from "@berth/store";
import { startLoop } from "./loop/loop.ts";

export interface PruneConfig {
  /** How old a cursor of a watch may be. Default 6 h. */
  readonly changesMaxAgeMs?: number;
  /** How long events are kept. Default 7 days. */
  readonly eventsMaxAgeMs?: number;
  readonly intervalMs?: number;
}

const ROWS = 5_000;
const HOUR_MS = 3_600_000;

export function startPrune(
  { store, logger }: { readonly store: Store; readonly logger: Logger },
  config: PruneConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): AsyncDisposable {
  const { changesMaxAgeMs = 6 * HOUR_MS, eventsMaxAgeMs = 7 * 24 * HOUR_MS, intervalMs = 60_000 } = config;
  const lifetime = new Lifetime(options.signal);
  let lock: HeldLock | undefined;
  lifetime.defer(async () => await lock?.[Symbol.asyncDispose]());
  lifetime.own(
    startLoop(
      { logger },
      {
        name: "prune",
        async round() {
          if (lock === undefined || lock.signal.aborted) lock = await store.locks.tryAcquire(PRUNE_LOCK);
          if (lock === undefined) return intervalMs;
          const changes = await store.transaction((tx) => pruneFeed(tx, "changes", changesMaxAgeMs, ROWS));
          const events = await store.transaction((tx) => pruneFeed(tx, "events", eventsMaxAgeMs, ROWS));
          const decisions = await store.transaction((tx) => pruneDecisions(tx, ROWS));
          return [changes, events, decisions].includes(ROWS) ? "again" : intervalMs;
        },
      },
      lifetime.signal,
    ),
  );
  return lifetime;
}
