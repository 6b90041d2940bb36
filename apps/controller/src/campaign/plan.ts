/**
 * What is to be done so that a campaign's images come onto its nodes. Pure: rows in, a plan out.
 *
 * Invariants:
 *  1. At most `parallelism` targets pull at a time, counted over nodes that are heard; a silent node holds no place and is
 *     not failed (D6): its targets wait.
 *  2. (generation, target, attempt) names a pull; an attempt that has failed is followed by another until there have been
 *     `maxAttempts`.
 *  3. A campaign ends when every target has; editing it begins again, at the new generation. Nodes that join while it runs
 *     get targets, too.
 */
import { backoffMs } from "@berth/base";
import type { CampaignSpec } from "@berth/proto";
import type { CampaignRow, NewTarget, TargetRow, TargetUpdate } from "@berth/store";

export interface CampaignNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly silent: boolean;
}

export interface CampaignPlanInput {
  readonly campaign: CampaignRow;
  readonly spec: CampaignSpec;
  readonly targets: readonly TargetRow[];
  readonly nodes: readonly CampaignNode[];
  readonly now: Date;
  newId(): string;
}

export interface CampaignPlan {
  readonly create: NewTarget[];
  readonly remove: TargetRow[];
  /** Those whose attempt was raised begin to pull. */
  readonly update: TargetUpdate[];
  /** The generation begins now. */
  readonly begins: boolean;
  wakeAt: Date | undefined;
}

const RETRY = { initialMs: 2_000, maxMs: 60_000, factor: 2 };
const DEFAULT_PARALLELISM = 10;
const DEFAULT_ATTEMPTS = 3;

export function planCampaign(input: CampaignPlanInput): CampaignPlan {
  const { campaign, now } = input;
  const begins = campaign.observedGeneration !== campaign.generation;
  const plan: CampaignPlan = { create: [], remove: [], update: [], begins, wakeAt: undefined };
  if (!begins && campaign.phase !== "Running") return plan;
  const startedAt = begins ? now : (campaign.startedAt ?? now);
  const deadline = deadlineOf(input.spec, startedAt);
  const current = chooseTargets(input, plan);
  if (deadline !== undefined && deadline <= now) {
    for (const row of current) {
      if (row.phase === "Succeeded" || (row.phase === "Failed" && row.nextAttemptAt === null)) continue;
      // A pull that is late is called off.
      const announced = row.phase === "Pulling" ? { announcedGeneration: null, announcedAttempt: null } : {};
      update(plan, row, {
        phase: "Failed",
        message: lateMessage(row),
        nextAttemptAt: null,
        finishedAt: now,
        ...announced,
      });
    }
    return plan;
  }
  noteWake(plan, deadline);
  advance(input, plan, current);
  return plan;
}

/** The targets that the spec asks for: those that are there, and (in `plan.create`) those that are not. */
function chooseTargets(input: CampaignPlanInput, plan: CampaignPlan): TargetRow[] {
  const { campaign, spec, targets, nodes } = input;
  const images = new Set(spec.images);
  const matching = nodes.filter((node) => carries(node.labels, spec.nodeSelector));
  const names = new Set(matching.map((node) => node.name));
  const there = new Set<string>();
  const kept: TargetRow[] = [];
  for (const row of targets) {
    if (!images.has(row.image) || !names.has(row.node)) {
      plan.remove.push(row);
      continue;
    }
    there.add(`${row.node} ${row.image}`);
    kept.push(row.generation === campaign.generation ? row : restarted(row, campaign.generation, spec, plan));
  }
  for (const { name } of matching) {
    for (const image of images) {
      if (there.has(`${name} ${image}`)) continue;
      plan.create.push({
        id: input.newId(),
        campaignUid: campaign.uid,
        generation: campaign.generation,
        namespace: campaign.namespace,
        node: name,
        image,
        snapshotter: spec.snapshotter,
      });
    }
  }
  return kept;
}

function restarted(row: TargetRow, generation: number, spec: CampaignSpec, plan: CampaignPlan): TargetRow {
  return update(plan, row, {
    generation,
    snapshotter: spec.snapshotter,
    phase: "Waiting",
    attempt: 0,
    message: "",
    imageDigest: "",
    nextAttemptAt: null,
    finishedAt: null,
  });
}

/** Failed ones are tried again after a wait; waiting ones begin as far as there is room. */
function advance(input: CampaignPlanInput, plan: CampaignPlan, current: readonly TargetRow[]): void {
  const { spec, now } = input;
  const silent = new Set(input.nodes.filter((node) => node.silent).map((node) => node.name));
  const maxAttempts = spec.maxAttempts ?? DEFAULT_ATTEMPTS;
  let room = spec.parallelism ?? DEFAULT_PARALLELISM;
  const waiting: TargetRow[] = [];
  for (const row of current) {
    if (row.phase === "Pulling" && !silent.has(row.node)) room -= 1;
    if (row.phase === "Waiting") waiting.push(row);
    if (row.phase === "Failed" && row.attempt < maxAttempts) {
      const nextAttemptAt = new Date(now.getTime() + backoffMs(RETRY, Math.max(1, row.attempt)));
      waiting.push(update(plan, row, { phase: "Waiting", nextAttemptAt, finishedAt: null }));
    }
  }
  for (const row of waiting) {
    if (row.nextAttemptAt !== null && row.nextAttemptAt > now) {
      noteWake(plan, row.nextAttemptAt);
    } else if (room > 0 && !silent.has(row.node)) {
      room -= 1;
      const attempt = row.attempt + 1;
      const announced = { announcedGeneration: row.generation, announcedAttempt: attempt };
      update(plan, row, { phase: "Pulling", attempt, nextAttemptAt: null, ...announced });
    }
  }
}

/** Adds to the plan, or to what it already says of the row; returns the row as it will be. */
function update(plan: CampaignPlan, row: TargetRow, patch: TargetUpdate["patch"]): TargetRow {
  const index = plan.update.findIndex((each) => each.before.id === row.id);
  if (index < 0) plan.update.push({ before: row, patch });
  else plan.update[index] = { before: plan.update[index]!.before, patch: { ...plan.update[index]!.patch, ...patch } };
  return { ...row, ...patch };
}

function deadlineOf(spec: CampaignSpec, startedAt: Date): Date | undefined {
  if (spec.deadline === undefined) return undefined;
  return new Date(startedAt.getTime() + Number(spec.deadline.seconds) * 1_000 + spec.deadline.nanos / 1e6);
}

function lateMessage(row: TargetRow): string {
  return row.message === ""
    ? "not done at the campaign's deadline"
    : `not done at the campaign's deadline; ${row.message}`;
}

function carries(labels: Readonly<Record<string, string>>, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

function noteWake(plan: CampaignPlan, at: Date | undefined): void {
  if (at !== undefined && (plan.wakeAt === undefined || at < plan.wakeAt)) plan.wakeAt = at;
}
