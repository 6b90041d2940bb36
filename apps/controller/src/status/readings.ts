/** What a fleet's status is read from: one snapshot of the store. */
import {
  allNodes,
  backlog,
  controllersAtWork,
  failedCampaigns,
  failedJobs,
  failingTasks,
  getStoreMeta,
  getUpgrade,
  journalLags,
  stuckStops,
  taskGroups,
  troubledCronJobs,
  troubledRollouts,
  troubledWebhooks,
  unplaceableTasks,
  unreachableTasks,
  workloadCounts,
  type Backlog,
  type CampaignTrouble,
  type ControllerRow,
  type CronTrouble,
  type JobTrouble,
  type JournalLag,
  type NodeRow,
  type RolloutTrouble,
  type StoreMeta,
  type TaskGroup,
  type Trouble,
  type Tx,
  type UpgradeRow,
  type WebhookRow,
} from "@berth/store";
import type { HoldTerms } from "../restore/begin.ts";
import { holdWaits, type HoldWait } from "../restore/release.ts";
import { CRON_JOB_LABEL } from "../cron/look.ts";

export interface FleetReadings {
  readonly nodes: readonly NodeRow[];
  readonly tasks: readonly TaskGroup[];
  readonly workloads: { readonly total: number; readonly settled: number };
  readonly unplaceable: readonly Trouble[];
  readonly failing: readonly Trouble[];
  readonly unreachable: readonly Trouble[];
  readonly stuckStops: readonly Trouble[];
  readonly rollouts: readonly RolloutTrouble[];
  readonly jobs: readonly JobTrouble[];
  readonly cronJobs: readonly CronTrouble[];
  readonly campaigns: readonly CampaignTrouble[];
  readonly lags: readonly JournalLag[];
  readonly backlog: Backlog;
  readonly controllers: readonly ControllerRow[];
  readonly webhooks: readonly WebhookRow[];
  /** The newest. */
  readonly upgrade: UpgradeRow | undefined;
  readonly meta: StoreMeta;
  /** For whom a store that was put back waits. */
  readonly holdWaits: readonly HoldWait[];
}

/** So many failures in a row are a crash loop. */
const CRASH_LOOP_FAILURES = 3;
/** A task that was told to stop and is there after this long is stuck: the longest grace people give, doubled. */
const STUCK_STOP_MS = 120_000;
/** No task became available for so long; that it has failed is its deadline's to say. */
const ROLLOUT_STALLED_MS = 120_000;
/** Held for so long, it may have been forgotten. */
const ROLLOUT_PAUSED_MS = 15 * 60_000;
/** Ticks come every second. */
const CRON_OVERDUE_MS = 60_000;

export async function readFleet(tx: Tx, terms: HoldTerms): Promise<FleetReadings> {
  return {
    nodes: await allNodes(tx),
    tasks: await taskGroups(tx),
    workloads: await workloadCounts(tx),
    unplaceable: await unplaceableTasks(tx),
    failing: await failingTasks(tx, CRASH_LOOP_FAILURES),
    unreachable: await unreachableTasks(tx),
    stuckStops: await stuckStops(tx, STUCK_STOP_MS),
    rollouts: await troubledRollouts(tx, { stalledMs: ROLLOUT_STALLED_MS, pausedMs: ROLLOUT_PAUSED_MS }),
    jobs: await failedJobs(tx, CRON_JOB_LABEL),
    cronJobs: await troubledCronJobs(tx, CRON_OVERDUE_MS),
    campaigns: await failedCampaigns(tx),
    lags: await journalLags(tx),
    backlog: await backlog(tx),
    controllers: await controllersAtWork(tx),
    webhooks: await troubledWebhooks(tx),
    upgrade: await getUpgrade(tx, undefined),
    meta: await getStoreMeta(tx),
    holdWaits: await holdWaits(tx, terms),
  };
}
