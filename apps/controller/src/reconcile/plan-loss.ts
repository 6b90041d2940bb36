/**
 * What becomes of the tasks of nodes that are silent or gone (flow C). A silent node's tasks are not failed (D6): they are
 * replaced only where the spec says so, and never while the fleet seems cut off as a whole (`FleetNode.evict`). Pure.
 *
 * Of a fenced task (`stopThenReplace`) there are never two: another one takes its slot only when it has ended, when its node
 * has fenced it (step Replace: `lease/expiry.ts` says so when T has passed), or when an operator has forgotten its node. That
 * holds whatever it makes way for: loss, a scale down and up, a new spec, a drain.
 */
import { hasEnded } from "@berth/model";
import type { WorkloadSpec } from "@berth/proto";
import type { TaskRow } from "@berth/store";
import { stop, taskEvent, type Context, type FleetNode } from "./plan-context.ts";

export function isLost({ spec, nodes }: Context, row: TaskRow): boolean {
  if (row.node === null) return false;
  const node = nodes.get(row.node);
  if (node === undefined) return true;
  // What has ended for good is not made to run again because its node is silent.
  if (!node.evict || (hasEnded(row.phase) && row.nextAttemptAt === null)) return false;
  const word = wordOf(spec);
  // One that was made before the spec said so is not fenced: nothing bounds how long it runs.
  if (word === "stopThenReplace") return row.fence && (row.certainty === "fenced" || hasEnded(row.phase));
  return word === "replace";
}

/** May another take this one's slot? */
export function isSafeToReplace(row: TaskRow, nodes: ReadonlyMap<string, FleetNode>): boolean {
  if (!row.fence || isGone(row, nodes)) return true;
  return hasEnded(row.phase) || row.certainty === "fenced";
}

export function replaceLost(context: Context, row: TaskRow): void {
  // protocol: TaskReplaced
  stop(context.plan, row, `node ${row.node} is ${context.nodes.has(row.node!) ? "silent" : "gone"}; replaced`);
  const message =
    row.certainty === "fenced"
      ? `its node ${row.node} is silent and has ended it by now: another is started`
      : `its node ${row.node} is silent: it possibly still runs there, and another is started`;
  context.plan.events.push({ ...taskEvent(row, "/tasks/replace", "NodeLost", message), severity: "Warning" });
}

/** Nothing is left of it: never placed, or its node says so, or its node is gone for good. */
export function isGone(row: TaskRow, nodes: ReadonlyMap<string, FleetNode>): boolean {
  return row.node === null || row.removed || !nodes.has(row.node);
}

/** May two run at a time? */
export function replacesLost(spec: WorkloadSpec): boolean {
  return wordOf(spec) === "replace";
}

function wordOf(spec: WorkloadSpec): string {
  if (spec.everyNode) return "keep";
  return spec.onNodeLoss || ((spec.replicas ?? 1) > 1 ? "replace" : "keep");
}
