/**
 * A task that stays what it is, or whose revision changes in name only, is tried again where it is, while it holds its room there;
 * one that gave it back is placed anew. What the rule of its revision says of the present attempt is noted in the row
 * (`beginsAgain`), for placement counts by that. Pure.
 */
import { beginsAgainBy, type RestartRule } from "@berth/model";
import type { TaskRow, TaskUpdate } from "@berth/store";
import { nextAttempt } from "./execution.ts";
import { noteWake, restartOf, taskEvent, type Context } from "./plan-context.ts";
import { planRestart } from "./plan-restart.ts";
import { spareRoom, takesRoom } from "./plan-room.ts";
import { placeAnew } from "./plan-slots.ts";

/** Tries a task again that has ended, when it is time; notes what there is to note of one that has not. */
export function tendRestart(context: Context, row: TaskRow): void {
  const { plan, now } = context;
  const rule = restartOf(context, row.workloadGeneration);
  const outcome = planRestart(rule, row, now);
  noteWake(plan, outcome.wakeAt);
  if (outcome.begin) {
    change(context, row, { ...nextAttempt(row), beginsAgain: beginsAgainBy(rule, row.attempt + 1) });
    plan.events.push(taskEvent(row, "/tasks/retry", "Restarted", `attempt ${row.attempt + 1}`));
    return;
  }
  change(context, row, { ...outcome.patch, ...noted(rule, row), ...spareRoom(context, row) });
}

/** Another revision, the same container: nothing has to be started anew. */
export function relabel(context: Context, row: TaskRow): void {
  const { rollout, plan, now } = context;
  const { generation } = rollout.target;
  const rule = restartOf(context, generation);
  const outcome = planRestart(rule, row, now);
  change(context, row, { workloadGeneration: generation, ...outcome.patch, ...noted(rule, row) });
  noteWake(plan, outcome.begin ? now : outcome.wakeAt);
}

function change(context: Context, row: TaskRow, patch: TaskUpdate["patch"]): void {
  if (takesRoom(row, patch)) placeAnew(context, row, "it had given its room back");
  else if (Object.keys(patch).length > 0) context.plan.update.push({ before: row, patch });
}

function noted(rule: RestartRule, row: TaskRow): TaskUpdate["patch"] {
  const beginsAgain = beginsAgainBy(rule, row.attempt);
  return beginsAgain === row.beginsAgain ? {} : { beginsAgain };
}
