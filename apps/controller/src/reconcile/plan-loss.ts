/**
 * What becomes of the tasks of nodes that are silent or gone (flow C). A silent node's tasks are not failed (D6): they are
 * replaced only where the spec says so, and never while the fleet seems cut off as a whole (`FleetNode.evict`). Pure.
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
  return replacesLost(spec) && node.evict && (!hasEnded(row.phase) || row.nextAttemptAt !== null);
}

export function replaceLost(context: Context, row: TaskRow): void {
  stop(context.plan, row, `node ${row.node} is ${context.nodes.has(row.node!) ? "silent" : "gone"}; replaced`);
  const message = `its node ${row.node} is silent: it possibly still runs there, and another is started`;
  context.plan.events.push({ ...taskEvent(row, "/tasks/replace", "NodeLost", message), severity: "Warning" });
}

/** Nothing is left of it: never placed, or its node says so, or its node is gone for good. */
export function isGone(row: TaskRow, nodes: ReadonlyMap<string, FleetNode>): boolean {
  return row.node === null || row.removed || !nodes.has(row.node);
}

/** May two run at a time? */
export function replacesLost(spec: WorkloadSpec): boolean {
  return !spec.everyNode && (spec.onNodeLoss || ((spec.replicas ?? 1) > 1 ? "replace" : "keep")) === "replace";
}
