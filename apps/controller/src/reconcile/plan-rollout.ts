/**
 * How a new spec reaches the tasks that stay: in place where it fits, elsewhere where it does not, and within a budget of
 * tasks that may be down because of it. Pure.
 */
import type { TaskRow } from "@berth/store";
import { sameContainer } from "./container.ts";
import { nextAttempt, nextGeneration } from "./execution.ts";
import { carries, isUp, newTask, noteWake, stop, taskEvent, type Context } from "./plan-context.ts";
import { isFree } from "./plan-slots.ts";
import { planRestart } from "./plan-restart.ts";

interface Rollout {
  /** How many more running tasks may be taken down for it. */
  budget: number;
}

export function tendAll(context: Context, kept: readonly TaskRow[]): void {
  const rollout: Rollout = { budget: budgetOf(context, kept) };
  // Tasks that are down go first: they cost nothing of the budget.
  for (const row of [...kept].sort((a, b) => Number(isUp(a)) - Number(isUp(b)) || a.slot - b.slot))
    tend(context, rollout, row);
}

/** One task that stays: rolled to the newest spec, or tried again, or left alone. */
function tend(context: Context, rollout: Rollout, row: TaskRow): void {
  const { workload, plan, container } = context;
  if (row.workloadGeneration === workload.generation) {
    tendRestart(context, row);
    return;
  }
  const moves = mustMove(context, row);
  if (!moves && sameContainer(row.container, container) && row.fence === context.fence) {
    const outcome = planRestart(context.restart, row, context.now);
    // Another generation of the workload, the same container: nothing has to be started anew.
    plan.update.push({ before: row, patch: { workloadGeneration: workload.generation, ...outcome.patch } });
    noteWake(plan, outcome.wakeAt);
    return;
  }
  if (isUp(row)) {
    if (rollout.budget <= 0) {
      tendRestart(context, row);
      return;
    }
    rollout.budget -= 1;
  }
  if (moves) {
    stop(plan, row, "the new spec needs another place");
    if (row.slot >= 0 && isFree(context, row.slot)) plan.create.push(newTask(context, row.slot, null));
    return;
  }
  plan.update.push({ before: row, patch: nextGeneration(row, workload, context.columns, context.fence) });
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

function budgetOf(context: Context, kept: readonly TaskRow[]): number {
  const { spec, plan } = context;
  // A slot that waits for its predecessor's end is down, too.
  const missing = spec.everyNode ? 0 : (spec.replicas ?? 1) - kept.length;
  const down = kept.filter((row) => !isUp(row)).length + Math.max(plan.create.length, missing);
  return (context.spec.rollout?.maxUnavailable ?? 1) - down;
}
