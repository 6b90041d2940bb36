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
import { beginsAgainBy, isAvailable } from "@berth/model";
import type { TaskRow } from "@berth/store";
import { nextGeneration } from "./execution.ts";
import { mayBegin, restartOf, taskEvent, type Context } from "./plan-context.ts";
import { relabel, tendRestart } from "./plan-again.ts";
import { isOutdated, isRolledOut, mustMove } from "./plan-revision.ts";
import { gaveRoomBack, roomToChange } from "./plan-room.ts";
import { placeAnew } from "./plan-slots.ts";

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

function move(context: Context, row: TaskRow): void {
  const { workload, plan, rollout, columns } = context;
  const { generation } = rollout.target;
  if (mustMove(context, row) || gaveRoomBack(row)) {
    placeAnew(context, row, "the new spec is to be placed anew");
    return;
  }
  const beginsAgain = beginsAgainBy(restartOf(context, generation), 1);
  const patch = nextGeneration(row, workload, { workloadGeneration: generation, ...columns, ...roomToChange(row, columns), fence: context.fence, beginsAgain }); // prettier-ignore
  plan.update.push({ before: row, patch });
  plan.events.push(taskEvent(row, "/tasks/update", "Updated", `updated to generation ${generation}`));
}

function budgetOf(context: Context, kept: readonly TaskRow[], wanted: number): number {
  const { target, bounds } = context.rollout;
  const available = kept.filter(
    (row) => isAvailable(row) && (row.workloadGeneration !== target.generation || isRolledOut(context, row)),
  ).length;
  return available - (wanted - bounds.maxUnavailable);
}
