/** Is a task what the target's tasks are, and can it become so where it is? Pure. */
import type { TaskRow } from "@berth/store";
import { sameContainer } from "./container.ts";
import { carries, selectorOf, type Context } from "./plan-context.ts";
import { isDone } from "./rollout.ts";

/** Does it have to be started anew (or elsewhere) to be of the target? */
export function isOutdated(context: Context, row: TaskRow): boolean {
  const { target } = context.rollout;
  if (row.workloadGeneration === target.generation) return false;
  if (target.restart || row.fence !== context.fence || mustMove(context, row)) return true;
  return !sameContainer(row.container, context.container);
}

/** Is it of the target, and has it been available for long enough? */
export function isRolledOut({ rollout, now }: Context, row: TaskRow): boolean {
  return isDone(row, rollout.target.generation, rollout.bounds.minReadyMs, now);
}

/** A new spec that does not fit the task's place (labels, or more room or ports than it holds) goes to another task. */
export function mustMove(context: Context, row: TaskRow): boolean {
  if (row.node === null) return false;
  const { columns, nodes, rollout } = context;
  const node = nodes.get(row.node);
  if (node === undefined || !carries(node.labels, selectorOf(rollout.target.template.placement))) return true;
  const grows =
    columns.cpuMillis > row.cpuMillis ||
    columns.memoryBytes > row.memoryBytes ||
    columns.hostPorts.some((port) => !row.hostPorts.includes(port));
  if (grows || row.pinnedNode !== null) return grows;
  const before = row.container as { runtimeHandler?: string; snapshotter?: string };
  const after = columns.container as { runtimeHandler?: string; snapshotter?: string };
  return (
    ((after.runtimeHandler ?? "") !== "" && after.runtimeHandler !== before.runtimeHandler) ||
    ((after.snapshotter ?? "") !== "" && after.snapshotter !== before.snapshotter)
  );
}
