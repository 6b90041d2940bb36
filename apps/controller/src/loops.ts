/**
 * The controller's loops, in the order in which work flows through them: leases make nodes, reconcile makes tasks, placement
 * gives them nodes, dispatch tells the nodes, ingest hears of what became of it. They end in reverse.
 */
import { hostname } from "node:os";
import type { Failpoint, Lifetime, Logger } from "@berth/base";
import { consumeShard, journalFetchEndpoint, type Bus } from "@berth/bus";
import type { ControllerConfig } from "@berth/config";
import type { JobQueues } from "@berth/jobs";
import type { Store } from "@berth/store";
import { startCampaigns } from "./campaign/campaigns.ts";
import { startCron } from "./cron/cron.ts";
import { startDispatch } from "./dispatch/dispatch.ts";
import { startDrains } from "./drain/drains.ts";
import { startDrills } from "./drill/drills.ts";
import { startIngest } from "./ingest/ingest.ts";
import { startLeases } from "./lease/lease.ts";
import type { ControllerMetrics } from "./metrics.ts";
import type { OvercommitConfig } from "./placement/fleet.ts";
import { startNews } from "./news/news.ts";
import { startPlacement } from "./placement/placement.ts";
import { evictionConfig, type EvictionConfig } from "./reconcile/fleet.ts";
import { startReconcile } from "./reconcile/reconcile.ts";
import { noticeCopy, type HoldTerms } from "./restore/begin.ts";
import { startRetention } from "./retention.ts";
import { startUpgrades } from "./upgrade/upgrades.ts";
import type { Sender } from "./webhooks/send.ts";
import { startWebhooks } from "./webhooks/webhooks.ts";

export interface LoopDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly queues: JobQueues;
  readonly logger: Logger;
  readonly metrics: ControllerMetrics;
  readonly failpoint: Failpoint;
  readonly sender: Sender;
}

/** Tells controllers apart, for people and in the shards' rows. */
export function controllerName(): string {
  return `${hostname()}-${process.pid}`;
}

/** The same in every controller: a node's shard is kept with its row. */
const JOURNAL_SHARDS = 4;

export async function startLoops(lifetime: Lifetime, deps: LoopDeps, config: ControllerConfig): Promise<void> {
  const { store, bus, queues, logger, metrics, failpoint, sender } = deps;
  const { resyncMs, lease } = config;
  const common = { store, logger, failpoint };
  // Before anything is placed.
  await noticeCopy(store, holdTermsOf(config));
  lifetime.own(startRetention({ store, logger }, config.retention));
  lifetime.own(startNews({ store, bus, logger, failpoint }));
  const limits = { replicas: journalReplicas(config.natsUrl) };
  const { secretsDirectory } = config.webhooks;
  lifetime.own(await startWebhooks({ ...common, sender, metrics: metrics.webhooks }, { secretsDirectory }));
  lifetime.own(
    await startIngest(
      {
        ...common,
        metrics: metrics.ingest,
        consume: (shard, handler, signal) => consumeShard(bus, shard, handler, { signal, logger, limits }),
        fetchJournal: (node, request, signal) => bus.request(journalFetchEndpoint, node, request, { signal }),
      },
      { shards: JOURNAL_SHARDS, owner: controllerName() },
    ),
  );
  lifetime.own(await startDispatch({ ...common, queues, metrics: metrics.dispatch }));
  lifetime.own(
    await startPlacement(
      { ...common, metrics: metrics.placement },
      {
        resyncMs: Math.min(resyncMs, 10_000),
        overcommit: overcommitOf(config),
      },
    ),
  );
  const eviction = evictionOf(config);
  lifetime.own(await startReconcile({ ...common, metrics: metrics.reconcile }, { resyncMs, ...eviction }));
  lifetime.own(await startDrains({ store, logger }, eviction));
  lifetime.own(startCron(common));
  lifetime.own(startUpgrades({ store, bus, logger }));
  lifetime.own(await startDrills({ store, logger }));
  lifetime.own(await startCampaigns({ ...common, metrics: metrics.reconcile }, { resyncMs }));
  lifetime.own(
    await startLeases({ store, bus, logger, metrics: metrics.lease }, { ...lease, eviction, shards: JOURNAL_SHARDS }),
  );
}

/** Of the servers of a cluster, so many as outlive the loss of one: three of three. Two cannot agree without each other. */
function journalReplicas(natsUrl: string): number {
  return natsUrl.split(",").length >= 3 ? 3 : 1;
}

/** The others' leases run out within one renewal of the first: only then is it known whether most went silent together. */
export function evictionOf({ lease, eviction }: ControllerConfig): EvictionConfig {
  const { perMinute: evictPerMinute, domainLabel } = eviction;
  return evictionConfig({ evictAfterMs: lease.renewMs + 1_000, evictPerMinute, domainLabel });
}

export function holdTermsOf({ lease }: ControllerConfig): HoldTerms {
  return { ttlMs: lease.ttlMs, slackMs: lease.fenceSlackMs };
}

export function overcommitOf({ placement }: ControllerConfig): OvercommitConfig {
  return { cpuPercent: placement.cpuOvercommitPercent, memoryPercent: placement.memoryOvercommitPercent };
}
