/**
 * Brings images onto nodes, campaign by campaign. Divided by namespace like the reconciler; woken by changes of campaigns,
 * targets and nodes, by what is due, and by a slow resync.
 */
import { Lifetime, type Failpoint, type Logger } from "@berth/base";
import {
  campaignLock,
  campaignRefs,
  parseWake,
  runningCampaignRefs,
  WORK_CHANNEL,
  type Store,
  type Wake,
} from "@berth/store";
import { startKeyedLoop } from "../loop/keyed-loop.ts";
import { partitionOf, startPartitions } from "../loop/partitions.ts";
import { sleepUnless } from "../loop/sleep.ts";
import type { ReconcileMetrics } from "../metrics.ts";
import { reconcileCampaign } from "./reconcile-campaign.ts";

export interface CampaignDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: ReconcileMetrics;
  readonly failpoint: Failpoint;
}

export interface CampaignConfig {
  readonly partitions?: number;
  readonly concurrency?: number;
  readonly resyncMs?: number;
}

export interface Campaigns extends AsyncDisposable {
  readonly busy: number;
}

const GATHER_MS = 20;

export async function startCampaigns(
  deps: CampaignDeps,
  config: CampaignConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<Campaigns> {
  const { store, logger } = deps;
  const { partitions: count = 4, concurrency = 2, resyncMs = 30_000 } = config;
  const lifetime = new Lifetime(options.signal);
  const held = new Set<number>();
  const isOurs = (namespace: string): boolean => held.has(partitionOf(namespace, count));
  const loop = startKeyedLoop(
    { logger },
    { name: "campaign", concurrency, process: (key) => processKey(deps, key, isOurs) },
    lifetime.signal,
  );
  const add = (ref: { readonly namespace: string; readonly uid: string }): void => {
    if (isOurs(ref.namespace)) loop.add(`${ref.namespace}/${ref.uid}`, GATHER_MS);
  };
  lifetime.own(
    await startPartitions(
      deps,
      {
        name: "campaign",
        count,
        lockOf: campaignLock,
        async hold(partition, signal) {
          held.add(partition);
          try {
            while (!signal.aborted) {
              for (const ref of await campaignRefs(store.db)) add(ref);
              await sleepUnless(signal, resyncMs);
            }
          } finally {
            held.delete(partition);
          }
        },
      },
      lifetime.signal,
    ),
  );
  lifetime.own(loop);
  const onWake = async (wake: Wake): Promise<void> => {
    if (wake.what === "campaign") add(wake);
    else if (wake.what === "node" || wake.what === "all")
      for (const ref of await runningCampaignRefs(store.db)) add(ref);
  };
  lifetime.own(
    await store.listen(WORK_CHANNEL, (payload) => {
      onWake(parseWake(payload)).catch((error: unknown) => {
        if (!lifetime.signal.aborted)
          logger.warn({ err: error }, "a wake-up of campaigns was lost; the resync makes up for it");
      });
    }),
  );
  return {
    get busy() {
      return loop.busy;
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

async function processKey(
  { store, metrics }: CampaignDeps,
  key: string,
  isOurs: (namespace: string) => boolean,
): Promise<number | undefined> {
  const [namespace = "", uid = ""] = key.split("/");
  if (!isOurs(namespace)) return undefined;
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1_000;
  try {
    const wakeInMs = await store.transaction((tx) => reconcileCampaign(tx, uid));
    metrics.reconciled("Campaign", "ok", seconds());
    return wakeInMs;
  } catch (error) {
    metrics.reconciled("Campaign", "error", seconds());
    throw error;
  }
}
