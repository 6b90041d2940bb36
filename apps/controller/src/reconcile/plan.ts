/**
 * What is to be done so that a workload's tasks become what its spec says. Pure: rows in, a plan out; the same rows give the
 * same plan, and a plan that was carried out gives an empty one.
 *
 * Invariants:
 *  1. A slot (or, for everyNode, a node) has at most one task that is wanted. A task that is not wanted any more is told to
 *     stop and disappears when its node holds nothing of it; only then, or when it was never placed.
 *  2. A rollout takes no available task down while that would leave fewer than `wanted - maxUnavailable` available, and never
 *     makes more than `maxSurge` tasks above the wanted ones (`plan-rollout.ts`). What it moves tasks to is decided before
 *     (`rollout.ts`).
 *  3. A silent node's tasks are not failed (D6). They are replaced only where the spec says so, and never while the fleet
 *     seems cut off as a whole (`plan-loss.ts`).
 *  4. A job's tasks run to their end and are tried again until then (`plan-job.ts`).
 *  5. A drain takes no workload below its disruption budget, unless it is forced (`plan-drain.ts`).
 */
import { contextOf, stop, type Plan, type PlanInput } from "./plan-context.ts";
import { heldSlots, planDrain, returnStayers } from "./plan-drain.ts";
import { planJob } from "./plan-job.ts";
import { isGone } from "./plan-loss.ts";
import { tendAll } from "./plan-rollout.ts";
import { keepEveryNode, keepSlots, wantedOf } from "./plan-slots.ts";

export { heldRollout } from "./plan-context.ts";
export type { DrainWait, FleetNode, Plan, PlanInput, Revision, RolloutPlan } from "./plan-context.ts";

export function planWorkload(input: PlanInput): Plan {
  const plan: Plan = { create: [], update: [], remove: [], events: [], waits: new Map(), wakeAt: undefined };
  const live = input.tasks.filter((row) => row.desired === "Run");
  for (const row of input.tasks) {
    if (row.desired === "Stop" && isGone(row, input.nodes)) plan.remove.push(row);
  }
  const leaving = input.tasks.filter((row) => row.desired === "Leave");
  if (input.workload.deletedAt !== null) {
    for (const row of [...live, ...leaving]) stop(plan, row, "workload deleted");
    return plan;
  }
  const context = contextOf(input, plan);
  if (input.spec.job !== undefined) {
    planJob(context, live);
    return plan;
  }
  const stayers = returnStayers(context, live, leaving);
  const taken = new Set([...stayers.map((row) => row.slot), ...heldSlots(context)]);
  const removed = new Set(plan.remove.map((row) => row.uid));
  const staying = live.filter((row) => !removed.has(row.uid));
  const kept = input.spec.everyNode ? keepEveryNode(context, staying) : keepSlots(context, staying, taken);
  tendAll(context, kept, wantedOf(context, staying));
  planDrain(
    context,
    kept,
    leaving.filter((row) => !stayers.includes(row)),
  );
  return plan;
}
