/**
 * Which tasks there should be: one a slot, or one a node. Makes what is missing, stops what is surplus, and answers with the
 * tasks that stay. What becomes of those on silent nodes is `plan-loss.ts`'s to say.
 */
import type { TaskRow } from "@berth/store";
import { carries, newTask, stop, type Context } from "./plan-context.ts";
import { isLost, isSafeToReplace, replaceLost } from "./plan-loss.ts";

/** Fills the slots 0 … replicas-1 but those that are `taken`, frees those above. Returns the tasks that stay. */
export function keepSlots(context: Context, live: readonly TaskRow[], taken: ReadonlySet<number>): TaskRow[] {
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
    if (!kept.has(slot) && !taken.has(slot) && isFree(context, slot)) plan.create.push(newTask(context, slot, null));
  }
  return [...kept.values()];
}

/** Nothing that must not run beside another is still to end in it, or has just been told to. */
export function isFree({ tasks, plan, nodes }: Context, slot: number): boolean {
  const removed = new Set(plan.remove);
  return tasks.every((row) => row.slot !== slot || removed.has(row) || isSafeToReplace(row, nodes));
}

/** One task on each node that matches; a cordoned or silent one gets no new one, and keeps what it has. */
export function keepEveryNode(context: Context, live: readonly TaskRow[]): TaskRow[] {
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
