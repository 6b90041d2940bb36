/**
 * What a job's tasks need: made in the order of their slots, so many at a time, tried again until they succeed, stopped when the
 * job has failed. Pure.
 *
 * Invariants:
 *  1. A slot has at most one wanted task; at most `parallelism` are under way, but for those that were when it was lowered.
 *  2. What has succeeded is never run again, not even when its node is gone. What has ended stays, with its log, until the job
 *     is deleted or has a new revision.
 *  3. A finished job begins nothing. A new revision stops all that the one before began, then begins anew.
 *
 * Tasks are waited for on a node that is drained: they run to their end.
 */
import { hasEnded, holdsRoom } from "@berth/model";
import { workloadStatus, type TaskRow } from "@berth/store";
import { evaluateJob, jobBounds, type JobState } from "./job.ts";
import { mayBegin, newTask, stop, type Context } from "./plan-context.ts";
import { isLost, replaceLost } from "./plan-loss.ts";
import { tendRestart } from "./plan-again.ts";
import { isFree } from "./plan-slots.ts";

export function jobStateOf(context: Context, live: readonly TaskRow[]): JobState {
  const { workload, spec, rollout, now } = context;
  const own = live.filter((row) => row.workloadGeneration === rollout.target.generation);
  return evaluateJob(jobBounds(spec.job!), workload.revision, own, workloadStatus(workload).job, now);
}

export function planJob(context: Context, live: readonly TaskRow[]): void {
  const { plan, spec, rollout } = context;
  const state = jobStateOf(context, live);
  const { completions, parallelism } = jobBounds(spec.job!);
  const kept = new Map<number, TaskRow>();
  for (const row of live) {
    if (row.workloadGeneration !== rollout.target.generation) stop(plan, row, "the job has a new spec");
    else if (row.slot >= completions && row.phase !== "Succeeded") stop(plan, row, "fewer completions are wanted");
    else if (row.phase !== "Succeeded" && isLost(context, row)) replaceLost(context, row);
    else kept.set(row.slot, row);
  }
  if (state.phase !== "Running") {
    for (const row of kept.values()) {
      if (!hasEnded(row.phase)) stop(plan, row, `the job is ${state.phase.toLowerCase()}`);
      // Nothing follows it any more, so that its room is another's.
      else if (holdsRoom(row)) plan.update.push({ before: row, patch: { beginsAgain: "no", nextAttemptAt: null } });
    }
    return;
  }
  for (const row of kept.values()) {
    if (mayBegin(context, row)) tendRestart(context, row);
    waitForEnd(context, row);
  }
  let active = [...kept.values()].filter(isActive).length;
  for (let slot = 0; slot < completions && active < parallelism; slot += 1) {
    if (kept.has(slot) || !isFree(context, slot)) continue;
    plan.create.push(newTask(context, slot, null));
    active += 1;
  }
}

/** Under way, or to be tried again. */
const isActive = (row: TaskRow): boolean => row.phase !== "Succeeded";

function waitForEnd({ plan, nodes }: Context, row: TaskRow): void {
  if (row.node === null || hasEnded(row.phase) || nodes.get(row.node)?.drain === undefined) return;
  plan.waits.set(row.uid, { row, state: "Blocked", message: "it is of a job and runs to its end" });
}
