/** What is remembered of a decision: bounded, whatever the size of the fleet, and once for all alike tasks of a batch. */
import { describeMisfit, groupMisfits, type ClassReport, type PlacementDecision, type ScoreParts } from "@berth/model";
import type { PlacementTask, TaskClass } from "@berth/model";
import type { PlacementRecord, RecordedPoints } from "@berth/store";

/** How many of the best nodes, and of those of each reason, are named. */
export const MOST_NAMED = 5;
const MOST_REASONS = 12;

export interface PlacedTogether {
  readonly workloadUid: string;
  readonly record: PlacementRecord;
  readonly uids: readonly string[];
}

/** @param reports by class, where a class had more than one node to choose from */
export function recordsOf(
  tasks: readonly PlacementTask[],
  decisions: readonly PlacementDecision[],
  classOf: (task: PlacementTask) => TaskClass,
  reports: ReadonlyMap<TaskClass, ClassReport>,
): PlacedTogether[] {
  const placed = tasks.flatMap((task, index) => {
    const decision = decisions[index]!;
    return decision.node === undefined ? [] : [{ task, cls: classOf(task), parts: decision.parts }];
  });
  return [...Map.groupBy(placed, ({ cls }) => cls)].map(([cls, together]) => ({
    workloadUid: cls.task.workloadUid,
    uids: together.map(({ task }) => task.uid),
    record: {
      ...summaryOf(cls.task, reports.get(cls)),
      tasks: Object.fromEntries(together.map(({ task, parts }) => [task.uid, pointsOf(parts)])),
    },
  }));
}

/** Of a task that only one node would do for there is nothing to compare. */
function summaryOf(task: PlacementTask, report: ClassReport | undefined): Omit<PlacementRecord, "tasks"> {
  if (report === undefined) return { nodes: 1, fit: 1, refused: [], leading: [] };
  return {
    nodes: report.nodes,
    fit: report.fit,
    leading: report.leading.map(({ candidate, parts }) => ({ node: candidate.node.name, points: pointsOf(parts) })),
    refused: refusedGroups(task, report.refused),
  };
}

export function refusedGroups(
  task: PlacementTask,
  refused: ClassReport["refused"],
  mostNamed = MOST_NAMED,
): PlacementRecord["refused"][number][] {
  return groupMisfits(refused.map(({ misfit }) => misfit))
    .slice(0, MOST_REASONS)
    .map(({ misfit, count }) => ({
      why: describeMisfit(misfit, count > 1, task),
      count,
      nodes: refused
        .filter((each) => each.misfit.kind === misfit.kind && each.misfit.what === misfit.what)
        .slice(0, mostNamed)
        .map(({ name }) => name),
    }));
}

export function pointsOf(parts: ScoreParts): RecordedPoints {
  return Object.fromEntries(Object.entries(parts).filter(([, points]) => points !== 0));
}
