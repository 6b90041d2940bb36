/**
 * How tasks are moved to the target of the rollout: in place where it fits, elsewhere where it does not. Pure.
 *
 * Invariants:
 *  1. A task that is available is taken down for the rollout only while more than `wanted - maxUnavailable` are available,
 *     the surge included. What is not available goes first and costs nothing. A task that has just become the target's
 *     counts again when it has been available for `minReady`, so a target that does not come up stops its own rollout.
 *  2. A surge task fills a slot above the wanted ones, runs the target from its beginning, and is made only while tasks wait
 *     to be moved; there are never more than `maxSurge`. It goes when the tasks that are not done are fewer (`plan-slots.ts`).
 *  3. While the rollout is held (`advance` is false) nothing is moved; what ends is tried again as ever.
 */
import { isAvailable } from "@berth/model";
import type { TaskRow } from "@berth/store";
import { nextAttempt, nextGeneration } from "./execution.ts";
import { mayBegin, newTask, noteWake, stop, taskEvent, type Context } from "./plan-context.ts";
import { gaveRoomBack, isOutdated, isRolledOut, mustMove } from "./plan-revision.ts";
import { isFree } from "./plan-slots.ts";
import { planRestart } from "./plan-restart.ts";

interface Budget {
  /** How many more available tasks may be taken down. */
  left: number;
}

/** @param kept every task that stays, the surge included, of `wanted` that are wanted */
export function tendAll(context: Context, kept: readonly TaskRow[], wanted: number): void {
  const budget: Budget = { left: budgetOf(context, kept, wanted) };
  for (const row of [...kept].sort((a, b) => Number(isAvailable(a)) - Number(isAvailable(b)) || a.slot - b.slot))
    tend(context, budget, row);
}

/** One task that stays: moved to the target, or tried again, or left alone. */
function tend(context: Context, budget: Budget, row: TaskRow): void {
  if (!mayBegin(context, row)) return;
  const { rollout } = context;
  const current = row.workloadGeneration === rollout.target.generation;
  if (current || !rollout.advance) tendRestart(context, row);
  else if (!isOutdated(context, row)) relabel(context, row);
  else if (mayTakeDown(budget, row)) move(context, row);
  else tendRestart(context, row);
}

function mayTakeDown(budget: Budget, row: TaskRow): boolean {
  if (!isAvailable(row)) return true;
  if (budget.left <= 0) return false;
  budget.left -= 1;
  return true;
}

/** Another revision, the same container: nothing has to be started anew. */
function relabel({ rollout, restart, plan, now }: Context, row: TaskRow): void {
  const outcome = planRestart(restart, row, now);
  plan.update.push({ before: row, patch: { workloadGeneration: rollout.target.generation, ...outcome.patch } });
  noteWake(plan, outcome.begin ? now : outcome.wakeAt);
}

function move(context: Context, row: TaskRow): void {
  const { workload, plan, rollout, columns } = context;
  const { generation } = rollout.target;
  if (mustMove(context, row) || gaveRoomBack(row)) {
    stop(plan, row, "the new spec is to be placed anew");
    if (row.pinnedNode !== null) plan.create.push(newTask(context, -1, row.pinnedNode));
    else if (row.slot >= 0 && isFree(context, row.slot)) plan.create.push(newTask(context, row.slot, null));
    return;
  }
  plan.update.push({ before: row, patch: nextGeneration(row, workload, generation, columns, context.fence) });
  plan.events.push(taskEvent(row, "/tasks/update", "Updated", `updated to generation ${generation}`));
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

function budgetOf(context: Context, kept: readonly TaskRow[], wanted: number): number {
  const { target, bounds } = context.rollout;
  const available = kept.filter(
    (row) => isAvailable(row) && (row.workloadGeneration !== target.generation || isRolledOut(context, row)),
  ).length;
  return available - (wanted - bounds.maxUnavailable);
}
