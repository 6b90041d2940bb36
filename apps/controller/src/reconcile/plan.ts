/**
 * What is to be done so that a workload's tasks become what its spec says. Pure: rows in, a plan out; the same rows give the
 * same plan, and a plan that was carried out gives an empty one.
 *
 * Invariants:
 *  1. A slot (or, for everyNode, a node) has at most one task that is wanted. A task that is not wanted any more is told to
 *     stop and disappears when its node holds nothing of it; only then, or when it was never placed.
 *  2. While a new spec is rolled out, at most `maxUnavailable` tasks are down because of it: only what runs is taken down
 *     within the budget, and what is down already costs nothing.
 *  3. A silent node's tasks are not failed (D6). They are replaced only where the spec says so, and never while the fleet
 *     seems cut off as a whole (`evict`).
 */
import { hasEnded, type RestartRule } from "@berth/model";
import type { ContainerSpec, WorkloadSpec } from "@berth/proto";
import type { NewEvent, NewTask, TaskRow, TaskUpdate, WorkloadRow } from "@berth/store";
import { containerColumns, sameContainer, type ContainerColumns } from "./container.ts";
import { nextAttempt, nextGeneration } from "./execution.ts";
import { planRestart } from "./plan-restart.ts";

/** A node as the reconciler needs it. */
export interface FleetNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly silent: boolean;
  readonly cordoned: boolean;
  /** Silent for long enough, and without most of the fleet: its tasks may be replaced where the spec says so. */
  readonly evict: boolean;
}

export interface PlanInput {
  readonly workload: WorkloadRow;
  readonly spec: WorkloadSpec;
  readonly tasks: readonly TaskRow[];
  readonly nodes: ReadonlyMap<string, FleetNode>;
  readonly now: Date;
  newUid(): string;
  newSuffix(): string;
}

export interface Plan {
  readonly create: NewTask[];
  readonly update: TaskUpdate[];
  readonly remove: TaskRow[];
  readonly events: NewEvent[];
  /** When something is due though nothing changes. */
  wakeAt: Date | undefined;
}

interface Context extends PlanInput {
  readonly container: ContainerSpec;
  readonly columns: ContainerColumns;
  readonly restart: RestartRule;
  readonly replaceLost: boolean;
  readonly selector: Readonly<Record<string, string>>;
  readonly plan: Plan;
  /** How many more running tasks may be taken down for the rollout. */
  budget: number;
}

export function planWorkload(input: PlanInput): Plan {
  const plan: Plan = { create: [], update: [], remove: [], events: [], wakeAt: undefined };
  const live = input.tasks.filter((row) => row.desired === "Run");
  for (const row of input.tasks) {
    if (row.desired === "Stop" && isGone(row, input.nodes)) plan.remove.push(row);
  }
  if (input.workload.deletedAt !== null) {
    for (const row of live) stop(plan, row, "workload deleted");
    return plan;
  }
  const context = contextOf(input, plan);
  const kept = input.spec.everyNode ? keepEveryNode(context, live) : keepSlots(context, live);
  context.budget = rolloutBudget(context, kept);
  // Tasks that are down go first: they cost nothing of the budget.
  for (const row of [...kept].sort((a, b) => Number(isUp(a)) - Number(isUp(b)) || a.slot - b.slot)) tend(context, row);
  return plan;
}

function contextOf(input: PlanInput, plan: Plan): Context {
  const { spec } = input;
  const container = spec.container!;
  const replicas = spec.replicas ?? 1;
  return {
    ...input,
    container,
    columns: containerColumns(container),
    restart: {
      policy: (spec.restart?.policy || "always") as RestartRule["policy"],
      maxAttempts: spec.restart?.maxAttempts ?? 0,
    },
    replaceLost: !spec.everyNode && (spec.onNodeLoss || (replicas > 1 ? "replace" : "keep")) === "replace",
    selector: spec.placement?.nodeSelector ?? {},
    plan,
    budget: 0,
  };
}

/** Fills the slots 0 … replicas-1, frees those above. Returns the tasks that stay. */
function keepSlots(context: Context, live: readonly TaskRow[]): TaskRow[] {
  const { plan, spec } = context;
  const wanted = spec.replicas ?? 1;
  const kept = new Map<number, TaskRow>();
  // Highest slots go first, so that what stays is what was there longest.
  for (const row of [...live].sort((a, b) => b.slot - a.slot)) {
    const surplus = row.slot < 0 || row.slot >= wanted;
    if (surplus) stop(plan, row, "scaled down");
    else if (isLost(context, row)) replaceLost(context, row);
    else kept.set(row.slot, row);
  }
  for (let slot = 0; slot < wanted; slot += 1) {
    if (!kept.has(slot)) plan.create.push(newTask(context, slot, null));
  }
  return [...kept.values()];
}

/** One task on each node that matches; a cordoned or silent one gets no new one, and keeps what it has. */
function keepEveryNode(context: Context, live: readonly TaskRow[]): TaskRow[] {
  const { plan, nodes } = context;
  const kept = new Map<string, TaskRow>();
  for (const row of live) {
    const node = row.pinnedNode === null ? undefined : nodes.get(row.pinnedNode);
    if (node === undefined || !carries(node.labels, context.selector))
      stop(plan, row, "its node does not match any more");
    else kept.set(node.name, row);
  }
  for (const node of nodes.values()) {
    if (kept.has(node.name) || node.cordoned || node.silent || !carries(node.labels, context.selector)) continue;
    plan.create.push(newTask(context, -1, node.name));
  }
  return [...kept.values()];
}

/** One task that stays: rolled to the newest spec, or tried again, or left alone. */
function tend(context: Context, row: TaskRow): void {
  const { workload, plan, container } = context;
  if (row.workloadGeneration === workload.generation) {
    tendRestart(context, row);
    return;
  }
  const moves = mustMove(context, row);
  if (!moves && sameContainer(row.container, container)) {
    const outcome = planRestart(context.restart, row, context.now);
    // Another generation of the workload, the same container: nothing has to be started anew.
    plan.update.push({ before: row, patch: { workloadGeneration: workload.generation, ...outcome.patch } });
    noteWake(plan, outcome.wakeAt);
    return;
  }
  if (isUp(row)) {
    if (context.budget <= 0) {
      tendRestart(context, row);
      return;
    }
    context.budget -= 1;
  }
  if (moves) {
    stop(plan, row, "the new spec needs another place");
    if (row.slot >= 0) plan.create.push(newTask(context, row.slot, null));
    return;
  }
  plan.update.push({ before: row, patch: nextGeneration(row, workload, context.columns) });
  plan.events.push(taskEvent(row, "/tasks/update", "Updated", `updated to generation ${workload.generation}`));
}

function tendRestart(context: Context, row: TaskRow): void {
  const { plan } = context;
  const outcome = planRestart(context.restart, row, context.now);
  noteWake(plan, outcome.wakeAt);
  if (outcome.begin) {
    plan.update.push({ before: row, patch: nextAttempt(row) });
    plan.events.push(taskEvent(row, "/tasks/retry", "Restarted", `attempt ${row.attempt + 1}`));
  } else if (outcome.patch !== undefined) plan.update.push({ before: row, patch: outcome.patch });
}

/** A new spec that does not fit the task's place (labels, or more room or ports than it holds) goes to another task. */
function mustMove(context: Context, row: TaskRow): boolean {
  if (row.node === null) return false;
  const { columns, nodes, selector } = context;
  const node = nodes.get(row.node);
  if (node === undefined || !carries(node.labels, selector)) return true;
  if (row.pinnedNode !== null) return false;
  const before = row.container as { runtimeHandler?: string; snapshotter?: string };
  const after = columns.container as { runtimeHandler?: string; snapshotter?: string };
  return (
    columns.cpuMillis > row.cpuMillis ||
    columns.memoryBytes > row.memoryBytes ||
    columns.hostPorts.some((port) => !row.hostPorts.includes(port)) ||
    ((after.runtimeHandler ?? "") !== "" && after.runtimeHandler !== before.runtimeHandler) ||
    ((after.snapshotter ?? "") !== "" && after.snapshotter !== before.snapshotter)
  );
}

function rolloutBudget(context: Context, kept: readonly TaskRow[]): number {
  const down = kept.filter((row) => !isUp(row)).length + context.plan.create.length;
  return (context.spec.rollout?.maxUnavailable ?? 1) - down;
}

const isUp = (row: TaskRow): boolean => row.phase === "Running" && row.certainty === "observed";

function isLost({ replaceLost, nodes }: Context, row: TaskRow): boolean {
  if (row.node === null) return false;
  const node = nodes.get(row.node);
  if (node === undefined) return true;
  // What has ended for good is not made to run again because its node is silent.
  return replaceLost && node.evict && (!hasEnded(row.phase) || row.nextAttemptAt !== null);
}

function replaceLost(context: Context, row: TaskRow): void {
  stop(context.plan, row, `node ${row.node} is ${context.nodes.has(row.node!) ? "silent" : "gone"}; replaced`);
  const message = `its node ${row.node} is silent: it possibly still runs there, and another is started`;
  context.plan.events.push({ ...taskEvent(row, "/tasks/replace", "NodeLost", message), severity: "Warning" });
}

/** Nothing is left of it: never placed, or its node says so, or its node is gone for good. */
function isGone(row: TaskRow, nodes: ReadonlyMap<string, FleetNode>): boolean {
  return row.node === null || row.removed || !nodes.has(row.node);
}

function stop(plan: Plan, row: TaskRow, why: string): void {
  if (row.node === null) {
    plan.remove.push(row);
    return;
  }
  plan.update.push({
    before: row,
    patch: { desired: "Stop", nextAttemptAt: null, deletedAt: row.deletedAt ?? new Date() },
  });
  plan.events.push(taskEvent(row, "/tasks/stop", "Stopping", why));
}

function newTask(context: Context, slot: number, pinnedNode: string | null): NewTask {
  const { workload, columns } = context;
  return {
    uid: context.newUid(),
    namespace: workload.namespace,
    // A task's name is a label of at most 63 characters.
    name: `${workload.name.slice(0, 57).replace(/-+$/, "")}-${context.newSuffix()}`,
    labels: workload.labels,
    workload: workload.name,
    workloadUid: workload.uid,
    workloadGeneration: workload.generation,
    slot,
    pinnedNode,
    ...columns,
  };
}

function carries(labels: Readonly<Record<string, string>>, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}

function noteWake(plan: Plan, at: Date | undefined): void {
  if (at !== undefined && (plan.wakeAt === undefined || at < plan.wakeAt)) plan.wakeAt = at;
}

function taskEvent(row: TaskRow, topic: string, reason: string, message: string): NewEvent {
  const { namespace, name, uid, node } = row;
  return { namespace, topic, kind: "Task", name, uid, node: node ?? "", reason, message };
}
