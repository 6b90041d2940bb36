/**
 * Which of the nodes that will do is the best. Points, all whole numbers, the sum counts; ties go to the node with fewer
 * tasks, then to the first name, so that the same input gives the same decision.
 *
 * What is fixed for a class and a node, what follows from where the others are, and what follows from the node's load are
 * apart, because the second is the same for all nodes of a domain, and the third only falls while a batch fills nodes.
 */
import type { PlacementTask } from "./ask.ts";
import { meetsTerm } from "./filter.ts";
import type { Candidate, PlacementNode } from "./node.ts";
import { isTolerated } from "./taints.ts";
import type { TaskClass } from "./task-class.ts";

/** Points by what they are for; those that are 0 may be left out. */
export interface ScoreParts {
  /** -1000 for each task of the workload in the domain, for each rule. */
  readonly spread: number;
  /** 0 for an empty node to -1000 for a full one, with the task on it. */
  readonly load: number;
  /** 500 where the image is already. */
  readonly image: number;
  /** 10 to 1000 for each preferred term that holds. */
  readonly nodeAffinity: number;
  /** 10 to 1000 for each preferred task nearby, and as much less for each unwanted one. */
  readonly taskAffinity: number;
  /** -1500 for each PreferNoSchedule taint that is not tolerated. */
  readonly taint: number;
}

export const POINTS = { perSpreadTask: 1_000, image: 500, perWeight: 10, perTaint: 1_500 } as const;

/** Image → the nodes that have it. */
export type WarmNodes = ReadonlyMap<string, ReadonlySet<string>>;

export type StaticParts = Pick<ScoreParts, "image" | "nodeAffinity" | "taint">;

export function staticParts({ task }: TaskClass, node: PlacementNode, warm: WarmNodes): StaticParts {
  const image = isWarm(task, node, warm) ? POINTS.image : 0;
  // Asked for every node of a large fleet, and most say nothing.
  if (node.taints.length === 0 && task.rules.nodeAffinity.preferred.length === 0)
    return { image, nodeAffinity: 0, taint: 0 };
  return {
    image,
    nodeAffinity: task.rules.nodeAffinity.preferred
      .filter(({ term }) => meetsTerm(term, node))
      .reduce((sum, { weight }) => sum + weight * POINTS.perWeight, 0),
    taint:
      -POINTS.perTaint *
      node.taints.filter(
        (taint) => taint.effect === "PreferNoSchedule" && !isTolerated(taint, task.rules.tolerations),
      ).length, // prettier-ignore
  };
}

export type TopologyParts = Pick<ScoreParts, "spread" | "taskAffinity">;

/** @param countOf how many of a counter's tasks are in the node's domain */
export function topologyParts(
  cls: TaskClass,
  countOf: (counter: TaskClass["counters"][number]) => number,
): TopologyParts {
  let spread = 0;
  for (const { counter } of cls.spread) spread -= POINTS.perSpreadTask * countOf(counter);
  let taskAffinity = 0;
  for (const { counter, weight } of cls.preferNear) if (countOf(counter) > 0) taskAffinity += weight * POINTS.perWeight;
  for (const { counter, weight } of cls.preferApart)
    if (countOf(counter) > 0) taskAffinity -= weight * POINTS.perWeight;
  return { spread, taskAffinity };
}

export function loadPoints(task: PlacementTask, candidate: Candidate): number {
  return 0 - candidate.loadWith(task);
}

export function scoreParts(cls: TaskClass, candidate: Candidate, warm: WarmNodes): ScoreParts {
  const { node } = candidate;
  return {
    ...topologyParts(cls, (counter) => counter.on(node)),
    load: loadPoints(cls.task, candidate),
    ...staticParts(cls, node, warm),
  };
}

export function totalOf(parts: ScoreParts): number {
  return parts.spread + parts.load + parts.image + parts.nodeAffinity + parts.taskAffinity + parts.taint;
}

function isWarm(task: PlacementTask, node: PlacementNode, warm: WarmNodes): boolean {
  return task.image !== "" && warm.get(task.image)?.has(node.name) === true;
}
