/** One look at one campaign: read, plan, carry out, in one transaction that locks the campaign. */
import { equals } from "@bufbuild/protobuf";
import { uuidv7 } from "@berth/base";
import { CampaignStatusSchema } from "@berth/proto";
import {
  allNodes,
  announceImages,
  campaignSpec,
  campaignStatus,
  deleteTargets,
  insertEvents,
  insertTargets,
  lockCampaignByUid,
  lockTargets,
  raiseRevisions,
  removeCampaign,
  targetsOf,
  updateCampaign,
  updateTargets,
  type CampaignRow,
  type TargetRow,
  type Tx,
  storeTime,
} from "@berth/store";
import { planCampaign, type CampaignPlan } from "./plan.ts";
import { campaignProgress, campaignStatusOf, type CampaignProgress } from "./status.ts";

/** In how many milliseconds to look again though nothing changes. */
export async function reconcileCampaign(tx: Tx, uid: string): Promise<number | undefined> {
  const campaign = await lockCampaignByUid(tx, uid);
  if (campaign === undefined) return undefined;
  const targets = await lockTargets(tx, targetsOf(uid));
  if (campaign.deletedAt !== null) {
    await release(tx, targets);
    await removeCampaign(tx, campaign);
    return undefined;
  }
  const now = await storeTime(tx);
  const nodes = (await allNodes(tx)).map((row) => ({
    name: row.name,
    labels: row.effectiveLabels,
    silent: row.phase === "Unknown",
  }));
  const plan = planCampaign({ campaign, spec: campaignSpec(campaign), targets, nodes, now, newId: uuidv7 });
  if (!plan.begins && campaign.phase !== "Running") return undefined;
  const after = await carryOut(tx, targets, plan);
  await writeStatus(tx, campaign, after, plan.begins, now);
  // New targets begin with the next look.
  if (plan.create.length > 0) return 0;
  return plan.wakeAt && Math.max(0, plan.wakeAt.getTime() - now.getTime());
}

async function carryOut(tx: Tx, targets: readonly TargetRow[], plan: CampaignPlan): Promise<TargetRow[]> {
  await release(tx, plan.remove);
  await insertTargets(tx, plan.create);
  const updated = await updateTargets(tx, plan.update);
  const given = (index: number): TargetRow => plan.update[index]!.before;
  await announceImages(
    tx,
    updated.filter((row, index) => row.phase === "Pulling" && row.attempt !== given(index).attempt),
  );
  const stopped = updated.filter((row, index) => given(index).phase === "Pulling" && row.phase !== "Pulling");
  if (stopped.length > 0) await raiseRevisions(tx, stopped.map((row) => row.node)); // prettier-ignore
  const gone = new Set(plan.remove.map((row) => row.id));
  const changed = new Map(updated.map((row) => [row.id, row]));
  const created = plan.create.map((row): TargetRow => ({ ...row, ...FRESH }));
  return [...targets.filter((row) => !gone.has(row.id)).map((row) => changed.get(row.id) ?? row), ...created];
}

const FRESH = {
  phase: "Waiting",
  attempt: 0,
  announcedGeneration: null,
  announcedAttempt: null,
  message: "",
  imageDigest: "",
  nextAttemptAt: null,
  finishedAt: null,
};

/** Targets that are no longer asked for leave the nodes' sets. */
async function release(tx: Tx, targets: readonly TargetRow[]): Promise<void> {
  if (targets.length === 0) return;
  await deleteTargets(tx, targets);
  await raiseRevisions(tx, targets.map((row) => row.node)); // prettier-ignore
}

async function writeStatus(
  tx: Tx,
  campaign: CampaignRow,
  targets: readonly TargetRow[],
  begins: boolean,
  now: Date,
): Promise<void> {
  const progress = campaignProgress(campaign, targets, begins, now);
  const before = campaignStatus(campaign);
  const status = campaignStatusOf(campaign, targets, progress, before, now);
  if (!begins && equals(CampaignStatusSchema, status, before)) return;
  const { phase, startedAt, finishedAt } = progress;
  await updateCampaign(tx, campaign, { status, phase, startedAt, finishedAt, observedGeneration: campaign.generation });
  await tell(tx, campaign, begins, progress, targets);
}

async function tell(
  tx: Tx,
  campaign: CampaignRow,
  begins: boolean,
  { phase }: CampaignProgress,
  targets: readonly TargetRow[],
): Promise<void> {
  const { namespace, name, uid, generation } = campaign;
  const about = { namespace, kind: "Campaign", name, uid } as const;
  if (begins) {
    const message = `generation ${generation}: ${targets.length} targets`;
    await insertEvents(tx, [{ ...about, topic: "/campaigns/start", reason: "Started", message }]);
  }
  if (phase === "Running" || (!begins && campaign.phase !== "Running")) return;
  const failed = targets.filter((row) => row.phase === "Failed").length;
  await insertEvents(tx, [
    {
      ...about,
      topic: "/campaigns/end",
      severity: failed === 0 ? "Normal" : "Warning",
      reason: phase,
      message: `${targets.length - failed} of ${targets.length} targets have their image`,
    },
  ]);
}
