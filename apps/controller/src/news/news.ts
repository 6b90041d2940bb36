/**
 * Events on NATS: what was stored is published on `events.<namespace>.<topic>`, for whoever wants to hear of it.
 *
 * Invariants:
 *  1. Only what is committed is published, in the order of the event feed, by one controller at a time (an advisory lock).
 *  2. The place is kept in Postgres after the broker has taken what was published: a controller that dies, or a broker that is
 *     away, makes events come later or twice, and none is left out that is still kept. The message's id is the event's.
 *  3. Postgres stays the truth (D1): nothing of the fleet reads these subjects.
 */
import { Lifetime, type Failpoint, type Logger } from "@berth/base";
import { eventSubject, type Bus } from "@berth/bus";
import {
  eventJson,
  keepPosition,
  keptPosition,
  NEWS_LOCK,
  startEventFeed,
  type FeedEvent,
  type Store,
} from "@berth/store";
import { KeptLock } from "../loop/kept-lock.ts";
import { startLoop } from "../loop/loop.ts";

export interface NewsDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
}

const READER = "nats";
/** How soon another controller takes over. */
const RETRY_MS = 2_000;

export function startNews(deps: NewsDeps, options: { readonly signal?: AbortSignal } = {}): AsyncDisposable {
  const { store, logger } = deps;
  const lifetime = new Lifetime(options.signal);
  const lock = lifetime.own(new KeptLock(store, NEWS_LOCK));
  lifetime.own(
    startLoop(
      { logger },
      {
        name: "news",
        async round(signal) {
          const held = await lock.held();
          if (held === undefined) return RETRY_MS;
          await publishAll(deps, AbortSignal.any([signal, held.signal]));
          return RETRY_MS;
        },
      },
      lifetime.signal,
    ),
  );
  return lifetime;
}

/** Until the signal fires. @throws UNAVAILABLE when the broker, or the store, is away */
async function publishAll({ store, bus, logger, failpoint }: NewsDeps, signal: AbortSignal): Promise<void> {
  await bus.connected(signal);
  await using feed = await startEventFeed({ store, logger });
  const { position, missed } = await keptPosition(store.db, READER, "events");
  if (missed) logger.warn({ reader: READER }, "events were dropped by retention before they could be published");
  for await (const batch of feed.follow(position, signal)) {
    for (const item of batch) publish(bus, item);
    // The broker has them when it has answered; a connection that is lost before says them again.
    await bus.connection().flush();
    failpoint("news.after-publish");
    await keepPosition(store.db, READER, batch.at(-1)!.position);
  }
}

function publish(bus: Bus, { event }: FeedEvent): void {
  const payload = Buffer.from(JSON.stringify(eventJson(event)));
  bus.publish(eventSubject(event.namespace, event.topic), payload, { id: `event-${event.id}` });
}
