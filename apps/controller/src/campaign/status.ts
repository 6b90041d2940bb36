/** What a campaign's targets amount to. Pure. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { CampaignStatusSchema, ConditionSchema, type CampaignStatus, type Condition } from "@berth/proto";
import type { CampaignRow, TargetRow } from "@berth/store";

export interface CampaignProgress {
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
  readonly phase: "Running" | "Succeeded" | "Failed";
}

/** Where a generation stands, when `pending` more targets are about to be added. */
export function campaignProgress(
  campaign: CampaignRow,
  targets: readonly TargetRow[],
  begins: boolean,
  now: Date,
): CampaignProgress {
  const startedAt = begins ? now : (campaign.startedAt ?? now);
  const ended = targets.length > 0 && targets.every((row) => row.phase === "Succeeded" || row.phase === "Failed");
  if (!ended) return { startedAt, finishedAt: null, phase: "Running" };
  const failed = targets.some((row) => row.phase === "Failed");
  return {
    startedAt,
    finishedAt: begins ? now : (campaign.finishedAt ?? now),
    phase: failed ? "Failed" : "Succeeded",
  };
}

export function campaignStatusOf(
  campaign: CampaignRow,
  targets: readonly TargetRow[],
  progress: CampaignProgress,
  before: CampaignStatus,
  now: Date,
): CampaignStatus {
  const count = (phase: string): number => targets.filter((row) => row.phase === phase).length;
  const { phase, startedAt, finishedAt } = progress;
  return create(CampaignStatusSchema, {
    observedGeneration: BigInt(campaign.generation),
    phase,
    targets: targets.length,
    waiting: count("Waiting"),
    pulling: count("Pulling"),
    succeeded: count("Succeeded"),
    failed: count("Failed"),
    startedAt: timestampFromDate(startedAt),
    ...(finishedAt === null ? {} : { finishedAt: timestampFromDate(finishedAt) }),
    conditions: [condition(targets, phase, before.conditions, now)],
  });
}

function condition(targets: readonly TargetRow[], phase: string, before: readonly Condition[], now: Date): Condition {
  const known = before.find((each) => each.type === "Complete");
  const failed = targets.find((row) => row.phase === "Failed" || (row.phase === "Waiting" && row.message !== ""));
  const why = failed === undefined ? "" : `${failed.image} on ${failed.node}: ${failed.message}`;
  const said = {
    Running: { status: "False", reason: targets.length === 0 ? "NoNodeMatches" : "Pulling", message: why },
    Succeeded: { status: "True", reason: "AllPresent", message: "" },
    Failed: { status: "False", reason: "TargetsFailed", message: why },
  }[phase as "Running" | "Succeeded" | "Failed"];
  const changedAt = known?.status === said.status ? known.changedAt : timestampFromDate(now);
  return create(ConditionSchema, { type: "Complete", ...said, ...(changedAt === undefined ? {} : { changedAt }) });
}
