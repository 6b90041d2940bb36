/**
 * Sends events to URLs. Webhooks are divided among the controllers by advisory locks; each is a task of its own, so that one whose
 * receiver is slow or dead holds up no other. All follow one feed, which is opened when the first webhook is there.
 */
import { aborted, anySignal, backoffMs, Lifetime, StatusError, type Backoff, type Failpoint, type Logger } from "@berth/base"; // prettier-ignore
import { getStoreMeta, startEventFeed, webhookLock, webhookRefs, WEBHOOKS_CHANNEL, type Feed, type FeedEvent, type Store } from "@berth/store"; // prettier-ignore
import type { WebhookMetrics } from "../metrics.ts";
import { partitionOf, startPartitions } from "../loop/partitions.ts";
import { sleepUnless } from "../loop/sleep.ts";
import { Outbound, type OutboundConfig, type OutboundDeps } from "./outbound.ts";
import type { Sender } from "./send.ts";

export interface WebhookDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  readonly sender: Sender;
  readonly metrics: WebhookMetrics;
}

export interface WebhookConfig {
  readonly secretsDirectory?: string | undefined;
  readonly backoff?: Backoff;
  readonly keepMs?: number;
  readonly partitions?: number;
  readonly resyncMs?: number;
}

const BACKOFF: Backoff = { initialMs: 1_000, maxMs: 300_000, factor: 2 };

/** One webhook that this controller has. */
interface Held {
  version: number;
  /** It has changed: whatever waits for the old one ends. */
  changed: AbortController;
  readonly stop: AbortController;
  readonly done: Promise<void>;
}

export async function startWebhooks(
  deps: WebhookDeps,
  config: WebhookConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<AsyncDisposable> {
  const { store, logger } = deps;
  const { partitions = 8, resyncMs = 30_000, keepMs = 5_000, backoff = BACKOFF } = config;
  const lifetime = new Lifetime(options.signal);
  const feedLifetime = lifetime.own(new Lifetime());
  let feed: Promise<Feed<FeedEvent>> | undefined;
  const openFeed = (): Promise<Feed<FeedEvent>> => {
    feed ??= startEventFeed({ store, logger }).then((opened) => feedLifetime.own(opened));
    feed.catch(() => (feed = undefined));
    return feed;
  };
  const outbound: OutboundConfig = { secretsDirectory: config.secretsDirectory, keepMs, backoff };
  let rung = new AbortController();
  const send: Send = async (uid, signal) => {
    const { storeEpoch } = await getStoreMeta(store.db);
    const own: OutboundDeps = { ...deps, storeEpoch, feed: await openFeed() };
    return await Outbound.run(own, outbound, uid, signal);
  };
  const hold = async (partition: number, signal: AbortSignal): Promise<void> => {
    const held = new Map<string, Held>();
    try {
      while (!signal.aborted) {
        const bell = rung.signal;
        const refs = (await webhookRefs(store.db)).filter(({ uid }) => partitionOf(uid, partitions) === partition);
        adjust(held, refs, (uid, own) => keepSending(logger, uid, own, signal, send));
        await sleepUnless(anySignal(signal, bell), resyncMs);
      }
    } finally {
      for (const { stop } of held.values()) stop.abort();
      await Promise.all([...held.values()].map(({ done }) => done));
    }
  };
  lifetime.own(
    await startPartitions(deps, { name: "webhook", count: partitions, lockOf: webhookLock, hold }, lifetime.signal),
  );
  lifetime.own(
    await store.listen(WEBHOOKS_CHANNEL, () => {
      const before = rung;
      rung = new AbortController();
      before.abort();
    }),
  );
  return lifetime;
}

/** Somebody has written to what we hold: who was late, or a user whose notification is on its way. */
const AGAIN_MS = 500;

type Send = (uid: string, signal: AbortSignal) => Promise<"idle" | "again">;
type Start = (uid: string, own: { readonly stop: AbortSignal; readonly changed: () => AbortSignal }) => Promise<void>;

/** Starts what is new, tells what has changed, ends what is gone. */
function adjust(
  held: Map<string, Held>,
  refs: readonly { readonly uid: string; readonly version: number }[],
  start: Start,
): void {
  const there = new Set(refs.map(({ uid }) => uid));
  for (const [uid, { stop, done }] of held) {
    if (there.has(uid) || stop.signal.aborted) continue;
    stop.abort();
    void done.then(() => held.delete(uid));
  }
  for (const { uid, version } of refs) {
    const known = held.get(uid);
    if (known === undefined) {
      const stop = new AbortController();
      const one: Held = {
        version,
        changed: new AbortController(),
        stop,
        done: Promise.resolve().then(() => start(uid, { stop: stop.signal, changed: () => one.changed.signal })),
      };
      held.set(uid, one);
    } else if (known.version !== version) {
      known.version = version;
      const before = known.changed;
      known.changed = new AbortController();
      before.abort();
    }
  }
}

/** Until it is stopped: sends, waits for a change where there is nothing to do, and begins anew after a failure of our own. */
async function keepSending(
  logger: Logger,
  uid: string,
  { stop, changed }: Parameters<Start>[1],
  signal: AbortSignal,
  send: Send,
): Promise<void> {
  const ending = anySignal(signal, stop);
  for (let failures = 0; !ending.aborted;) {
    const once = anySignal(ending, changed());
    try {
      const next = await send(uid, once);
      failures = 0;
      if (next === "idle") await aborted(once);
      else await sleepUnless(once, AGAIN_MS);
    } catch (error) {
      if (ending.aborted) return;
      failures += 1;
      logger.warn({ err: StatusError.from(error), webhook: uid }, "a webhook cannot be sent; it will be tried again");
      await sleepUnless(once, backoffMs({ initialMs: 100, maxMs: 5_000, factor: 2 }, Math.min(failures, 16)));
    }
  }
}
