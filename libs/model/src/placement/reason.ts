/** Why a task has no node, in one line: nodes of the same reason counted together. */
import { formatCpu, formatMemory } from "../quantity.ts";
import type { PlacementTask } from "./ask.ts";
import type { Misfit } from "./filter.ts";

export interface MisfitGroup {
  /** Of a group for room: the one that has most left. */
  readonly misfit: Misfit;
  readonly count: number;
}

/** `0 of 2 nodes fit: 1 lacks label disk=ssd, 1 has 200m cpu left of 500m asked`. @param asked how many could be asked */
export function explainUnplaced(task: PlacementTask, nodes: number, asked: number, found: readonly Misfit[]): string {
  if (nodes === 0) return "no node has joined the fleet yet";
  if (asked === 0) return `node ${task.pinnedNode} is not there any more`;
  const parts = groupMisfits(found).map(({ misfit, count }) => `${count} ${describeMisfit(misfit, count > 1, task)}`);
  if (task.pinnedNode !== null) {
    return `node ${task.pinnedNode} does not fit: ${parts.join(", ").replace(/^1 /, "it ")}`;
  }
  return `0 of ${asked} ${asked === 1 ? "node fits" : "nodes fit"}: ${parts.join(", ")}`;
}

/** The largest group first. */
export function groupMisfits(found: readonly Misfit[]): MisfitGroup[] {
  const groups = new Map<string, { misfit: Misfit; count: number }>();
  for (const misfit of found) {
    const key = `${misfit.kind}/${misfit.what}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { misfit, count: 1 });
    else {
      group.count += 1;
      if (misfit.left > group.misfit.left) group.misfit = misfit;
    }
  }
  return [...groups.values()].sort((a, b) => b.count - a.count);
}

/** What stands behind "it" or a number of nodes. */
export function describeMisfit(
  misfit: Misfit,
  several: boolean,
  task: Pick<PlacementTask, "cpuMillis" | "memoryBytes">,
): string {
  const lack = several ? "lack" : "lacks";
  const have = several ? "have" : "has";
  const are = several ? "are" : "is";
  const most = several ? " at most" : "";
  switch (misfit.kind) {
    case "unreachable":
      return `${are} silent`;
    case "ready":
      return `${are} not ready`;
    case "cordoned":
      return `${are} cordoned`;
    case "taint":
      return `${have} taint ${misfit.what} that it does not tolerate`;
    case "label":
      return `${lack} label ${misfit.what}`;
    case "affinity":
      return `${several ? "do" : "does"} not match ${misfit.what}`;
    case "runtime":
      return `${lack} runtime handler ${misfit.what}`;
    case "snapshotter":
      return `${lack} snapshotter ${misfit.what}`;
    case "stopper":
      return `${lack} a stopper that works, which onNodeLoss stopThenReplace needs`;
    case "topology":
      return `${lack} label ${misfit.what}, whose values are its failure domains`;
    case "skew":
      return `would be more than ${misfit.left} ahead of the emptiest ${misfit.what || "node"}`;
    case "near":
      return `${have} no ${misfit.what}`;
    case "apart":
      return `${have} ${misfit.what}, which it keeps apart from`;
    case "repelled":
      return `${are} kept free of ${misfit.what} by another workload`;
    case "port":
      return `${have} host port ${misfit.what} taken`;
    case "tasks":
      return `${have} no room for another task`;
    case "cpu":
      return `${have}${most} ${formatCpu(Math.max(0, misfit.left))} cpu left of ${formatCpu(task.cpuMillis)} asked`;
    case "memory":
      return `${have}${most} ${formatMemory(Math.max(0, misfit.left))} memory left of ${formatMemory(task.memoryBytes)} asked`;
  }
}
