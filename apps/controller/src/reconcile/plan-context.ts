/**
 * What the parts of a plan share: what the plan is made from, what it has become so far, and the few moves that all parts make
 * (a task is made, told to stop, or spoken of). Pure.
 *
 * Which tasks there should be: `plan-slots.ts`. What a silent node's tasks become: `plan-loss.ts`. How a new spec reaches them:
 * `plan-rollout.ts`. How they leave a node: `plan-drain.ts`. What follows an end: `plan-again.ts`. What room they hold:
 * `plan-room.ts`.
 */
import { beginsAgainBy, isAvailable, type RestartRule, type Taint } from "@berth/model";
import type { ContainerSpec, Placement, WorkloadSpec } from "@berth/proto";
import type { NewEvent, NewTask, TaskRow, TaskUpdate, WorkloadRow } from "@berth/store";
import { containerColumns, type ContainerColumns } from "./container.ts";
import { rolloutBounds, type RolloutBounds } from "./rollout-bounds.ts";

/** A node as the reconciler needs it. */
export interface FleetNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly silent: boolean;
  readonly cordoned: boolean;
  /** Silent for long enough, and without most of the fleet: its tasks may be replaced where the spec says so. */
  readonly evict: boolean;
  /** Its tasks are to leave; `forced`: whatever their budgets say. */
  readonly drain?: "moving" | "forced" | undefined;
  /** The store was put back, and this node has not shown yet what it runs. */
  readonly unshown?: boolean;
  /** Besides those of silence and a cordon. */
  readonly taints?: readonly Taint[];
}

/** What tasks of a revision are. */
export interface Revision {
  /** Of the workload when it was made; tasks carry it. */
  readonly generation: number;
  readonly template: WorkloadSpec;
  /** Tasks begin anew for it, though their container is the same. */
  readonly restart: boolean;
}

/** What the rollout wants of the plan (`rollout.ts`). */
export interface RolloutPlan {
  readonly target: Revision;
  /** What tasks that are made anew become: while it is held, the last good one. */
  readonly fresh: Revision;
  /** May tasks be moved to the target now? */
  readonly advance: boolean;
  readonly bounds: RolloutBounds;
  /** What tasks of an earlier generation are, while that is kept. */
  revisionAt?(generation: number): Revision | undefined;
}

/** Of the spec as it is, and held: for looking at a plan that nobody carries out. */
export function heldRollout({ generation }: WorkloadRow, spec: WorkloadSpec): RolloutPlan {
  const target: Revision = { generation, template: spec, restart: false };
  return { target, fresh: target, advance: false, bounds: rolloutBounds(spec.rollout, spec.replicas ?? 1) };
}

export interface PlanInput {
  readonly workload: WorkloadRow;
  readonly spec: WorkloadSpec;
  readonly rollout: RolloutPlan;
  readonly tasks: readonly TaskRow[];
  readonly nodes: ReadonlyMap<string, FleetNode>;
  readonly now: Date;
  /** The store was put back: nothing of which there must never be two is begun (`libs/store/src/restore.ts`). */
  readonly held?: boolean;
  newUid(): string;
  newSuffix(): string;
}

export interface DrainWait {
  readonly row: TaskRow;
  readonly state: "Moving" | "Stopping" | "Blocked";
  readonly message: string;
}

export interface Plan {
  readonly create: NewTask[];
  readonly update: TaskUpdate[];
  readonly remove: TaskRow[];
  readonly events: NewEvent[];
  /** Why tasks that are to leave their nodes are still there, by uid; also when there is nothing else to do. */
  readonly waits: Map<string, DrainWait>;
  /** When something is due though nothing changes. */
  wakeAt: Date | undefined;
}

export interface Context extends PlanInput {
  /** Of the target. */
  readonly container: ContainerSpec;
  readonly columns: ContainerColumns;
  readonly freshColumns: ContainerColumns;
  /** Where tasks belong that are made or kept: while the rollout is held, that is the last good revision's to say. */
  readonly placement: Placement | undefined;
  /** Executions of the target are made with it: their node ends them when its lease runs out. */
  readonly fence: boolean;
  readonly freshFence: boolean;
  readonly plan: Plan;
}

export function contextOf(input: PlanInput, plan: Plan): Context {
  const { target, fresh } = input.rollout;
  const container = target.template.container!;
  const columns = containerColumns(container);
  return {
    ...input,
    container,
    columns,
    freshColumns: fresh === target ? columns : containerColumns(fresh.template.container!),
    placement: fresh.template.placement,
    fence: isFenced(target),
    freshFence: isFenced(fresh),
    plan,
  };
}

const isFenced = ({ template }: Revision): boolean => template.onNodeLoss === "stopThenReplace";

/** Not where it is not known what runs; and for what there must never be two of, while that is not known elsewhere. */
export function mayBegin({ held, fence, freshFence, nodes }: Context, row: TaskRow): boolean {
  if (row.node !== null && nodes.get(row.node)?.unshown === true) return false;
  return held !== true || !(row.fence || fence || freshFence);
}

/** A job's tasks are tried again until they succeed; how often is the job's to say. */
const JOB_RESTART: RestartRule = { policy: "onFailure", maxAttempts: 0 };

/** A task is tried again by its own revision; one that is forgotten, by the target. */
export function restartOf({ spec, rollout }: Context, generation: number): RestartRule {
  if (spec.job !== undefined) return JOB_RESTART;
  const { target, fresh } = rollout;
  const own = [target, fresh].find((each) => each.generation === generation) ?? rollout.revisionAt?.(generation);
  return restartRule((own ?? target).template);
}

export function restartRule(spec: WorkloadSpec): RestartRule {
  return {
    policy: (spec.restart?.policy || "always") as RestartRule["policy"],
    maxAttempts: spec.restart?.maxAttempts ?? 0,
  };
}

/** Does it run, known to do so, and is it well? */
export const isUp = (row: TaskRow): boolean => isAvailable(row);

/** Tells a task to stop; one that was never placed is gone at once. */
export function stop(plan: Plan, row: TaskRow, why: string): void {
  if (row.node === null) {
    plan.remove.push(row);
    return;
  }
  plan.update.push({
    before: row,
    // protocol: StopOrdered
    patch: { desired: "Stop", nextAttemptAt: null, deletedAt: row.deletedAt ?? new Date() },
  });
  plan.events.push(taskEvent(row, "/tasks/stop", "Stopping", why));
}

export function newTask(context: Context, slot: number, pinnedNode: string | null): NewTask {
  const { workload, rollout, freshColumns, freshFence } = context;
  return {
    uid: context.newUid(),
    namespace: workload.namespace,
    // A task's name is a label of at most 63 characters.
    name: `${workload.name.slice(0, 57).replace(/-+$/, "")}-${context.newSuffix()}`,
    labels: workload.labels,
    workload: workload.name,
    workloadUid: workload.uid,
    workloadGeneration: rollout.fresh.generation,
    slot,
    pinnedNode,
    ...freshColumns,
    fence: freshFence,
    beginsAgain: beginsAgainBy(restartOf(context, rollout.fresh.generation), 1),
  };
}

export const selectorOf = (placement: Placement | undefined): Readonly<Record<string, string>> =>
  placement?.nodeSelector ?? {};

export function carries(labels: Readonly<Record<string, string>>, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

export function noteWake(plan: Plan, at: Date | undefined): void {
  if (at !== undefined && (plan.wakeAt === undefined || at < plan.wakeAt)) plan.wakeAt = at;
}

export function taskEvent(row: TaskRow, topic: string, reason: string, message: string): NewEvent {
  const { namespace, name, uid, node } = row;
  return { namespace, topic, kind: "Task", name, uid, node: node ?? "", reason, message };
}
