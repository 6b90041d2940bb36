/**
 * Which tasks there should be: one a slot, or one a node. Makes what is missing, stops what is surplus, and answers with the
 * tasks that stay. What becomes of those on silent nodes is `plan-loss.ts`'s to say.
 */
import { admits, CORDONED, UNREACHABLE, type PlacementRules } from "@berth/model";
import type { TaskRow } from "@berth/store";
import { placementRules } from "../placement/rules.ts";
import { carries, newTask, selectorOf, stop, type Context, type FleetNode } from "./plan-context.ts";
import { isLost, isSafeToReplace, replaceLost } from "./plan-loss.ts";
import { isOutdated, isRolledOut } from "./plan-revision.ts";

/** Fills the slots 0 … replicas-1 but those that are `taken`, keeps what surge is needed above them, frees the rest. Returns the tasks that stay. */
export function keepSlots(context: Context, live: readonly TaskRow[], taken: ReadonlySet<number>): TaskRow[] {
  const { plan } = context;
  const wanted = wantedOf(context, live);
  const surge = surgeOf(context, live, wanted);
  const kept = new Map<number, TaskRow>();
  // Highest slots go first, so that what stays is what was there longest.
  for (const row of [...live].sort((a, b) => b.slot - a.slot)) {
    if (isSurplus(context, row, wanted, surge.keep)) stop(plan, row, "scaled down");
    else if (isLost(context, row)) replaceLost(context, row);
    else kept.set(row.slot, row);
  }
  for (let slot = 0; slot < wanted + surge.make; slot += 1) {
    if (!kept.has(slot) && !taken.has(slot) && isFree(context, slot)) plan.create.push(newTask(context, slot, null));
  }
  return [...kept.values()];
}

/** Nothing that must not run beside another is still to end in it, or has just been told to. */
export function isFree({ tasks, plan, nodes }: Context, slot: number): boolean {
  const removed = new Set(plan.remove);
  return tasks.every((row) => row.slot !== slot || removed.has(row) || isSafeToReplace(row, nodes));
}

/** Another task in its place, for which a node is found as for a new one. */
export function placeAnew(context: Context, row: TaskRow, why: string): void {
  const { plan } = context;
  stop(plan, row, why);
  if (row.pinnedNode !== null) plan.create.push(newTask(context, -1, row.pinnedNode));
  else if (row.slot >= 0 && isFree(context, row.slot)) plan.create.push(newTask(context, row.slot, null));
}

/** What says which places there are. */
export type Places = Pick<Context, "spec" | "nodes" | "placement">;

/** How many tasks are wanted: the replicas, or the nodes that match and have one or may get one. */
export function wantedOf({ spec, nodes, placement }: Places, live: readonly TaskRow[]): number {
  if (!spec.everyNode) return spec.replicas ?? 1;
  const taken = new Set(live.map((row) => row.pinnedNode));
  const rules = placementRules(placement, "");
  return [...nodes.values()].filter((node) =>
    taken.has(node.name) ? carries(node.labels, selectorOf(placement)) : isOpen(rules, node),
  ).length;
}

/** The tasks of the wanted places: none of the surge, and none that has to go. */
export function inPlace(context: Places, live: readonly TaskRow[]): TaskRow[] {
  const { spec, nodes, placement } = context;
  const wanted = wantedOf(context, live);
  return live.filter((row) => {
    if (!spec.everyNode) return row.slot >= 0 && row.slot < wanted;
    const node = row.pinnedNode === null ? undefined : nodes.get(row.pinnedNode);
    return node !== undefined && carries(node.labels, selectorOf(placement));
  });
}

/** Surge tasks are made for those that wait to be moved, and kept for those that are not done. */
function surgeOf(
  context: Context,
  live: readonly TaskRow[],
  wanted: number,
): { readonly make: number; readonly keep: number } {
  const { advance, bounds } = context.rollout;
  if (bounds.maxSurge === 0) return { make: 0, keep: 0 };
  const rows = live.filter((row) => row.slot >= 0 && row.slot < wanted);
  const outdated = rows.filter((row) => isOutdated(context, row)).length;
  const undone = rows.filter((row) => !isRolledOut(context, row)).length;
  const make = advance ? Math.min(bounds.maxSurge, outdated) : 0;
  return { make, keep: Math.max(make, Math.min(bounds.maxSurge, undone)) };
}

function isSurplus({ rollout, spec }: Context, row: TaskRow, wanted: number, surge: number): boolean {
  if (spec.everyNode || row.slot < 0 || row.slot >= wanted + surge) return true;
  // Above the wanted slots only the surge stays; others were scaled away.
  return row.slot >= wanted && row.workloadGeneration !== rollout.target.generation;
}

/**
 * One task on each node that matches; one whose taints it does not tolerate (a cordon and silence are such) gets no new one, and
 * keeps what it has.
 */
export function keepEveryNode(context: Context, live: readonly TaskRow[]): TaskRow[] {
  const { plan, nodes } = context;
  const kept = new Map<string, TaskRow>();
  for (const row of live) {
    const node = row.pinnedNode === null ? undefined : nodes.get(row.pinnedNode);
    if (node === undefined || !carries(node.labels, selectorOf(context.placement)))
      stop(plan, row, "its node does not match any more");
    else kept.set(node.name, row);
  }
  const rules = placementRules(context.placement, context.workload.namespace);
  for (const node of nodes.values()) {
    if (kept.has(node.name) || !isOpen(rules, node)) continue;
    plan.create.push(newTask(context, -1, node.name));
  }
  return [...kept.values()];
}

/** Would a new task be let in? */
function isOpen(rules: PlacementRules, { labels, taints = [], cordoned, silent }: FleetNode): boolean {
  return admits(rules, {
    labels,
    taints: [...taints, ...(cordoned ? [CORDONED] : []), ...(silent ? [UNREACHABLE] : [])],
  });
}
