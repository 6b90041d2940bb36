/**
 * The whole answer to "why here, why not there": what each node lacks for a task, how those that will do compare, and what
 * would have to change. Computed now, for one task; costs a look at every node.
 */
import type { PlacementTask } from "./ask.ts";
import type { PlacementBatch } from "./batch.ts";
import { misfits, type Misfit, type MisfitKind } from "./filter.ts";
import type { Candidate } from "./node.ts";
import { floorsByLook } from "./plain.ts";
import { describeMisfit, groupMisfits } from "./reason.ts";
import { scoreParts, totalOf, type ScoreParts } from "./score.ts";

export interface NodeVerdict {
  readonly node: string;
  /** Everything that stands against it; none: it will do. */
  readonly misfits: readonly Misfit[];
  /** Those that will do only. */
  readonly parts: ScoreParts | undefined;
}

export interface Verdicts {
  /** The best first, then those that lack least. */
  readonly nodes: readonly NodeVerdict[];
  readonly suggestions: readonly string[];
}

export function judgeNodes(batch: PlacementBatch, task: PlacementTask): Verdicts {
  const cls = batch.classOf(task);
  const asked = batch.candidates.filter(({ node }) => task.pinnedNode === null || node.name === task.pinnedNode);
  const floors = floorsByLook(cls, asked);
  const nodes = asked.map((candidate: Candidate): NodeVerdict => {
    const against = [...misfits(cls, candidate, floors)];
    const parts = against.length === 0 ? scoreParts(cls, candidate, batch.warm) : undefined;
    return { node: candidate.node.name, misfits: against, parts };
  });
  nodes.sort(byMerit);
  return { nodes, suggestions: nodes.some(({ parts }) => parts !== undefined) ? [] : suggestionsFor(task, nodes) };
}

function byMerit(a: NodeVerdict, b: NodeVerdict): number {
  if (a.parts !== undefined && b.parts !== undefined) {
    return totalOf(b.parts) - totalOf(a.parts) || (a.node < b.node ? -1 : 1);
  }
  return a.misfits.length - b.misfits.length || (a.node < b.node ? -1 : 1);
}

/** What would make it fit, the change that opens most nodes first: of nodes that lack one thing only. */
function suggestionsFor(task: PlacementTask, nodes: readonly NodeVerdict[]): string[] {
  const near = nodes.filter(({ misfits: against }) => against.length === 1);
  if (near.length === 0) return fewest(task, nodes);
  return groupMisfits(near.map(({ misfits: against }) => against[0]!)).map(({ misfit, count }) => {
    const where = count === 1 ? near.find(({ misfits: [only] }) => isSame(only!, misfit))!.node : `${count} nodes`;
    return `${where} would do: ${remedy(misfit, task)}`;
  });
}

function fewest(task: PlacementTask, nodes: readonly NodeVerdict[]): string[] {
  const [first] = nodes;
  if (first === undefined) return [];
  const what = first.misfits.map((misfit) => remedy(misfit, task)).join("; and ");
  return [`no node lacks one thing only; ${first.node} lacks ${first.misfits.length}: ${what}`];
}

const isSame = (a: Misfit, b: Misfit): boolean => a.kind === b.kind && a.what === b.what;

function remedy(misfit: Misfit, task: PlacementTask): string {
  const { what } = misfit;
  const said = describeMisfit(misfit, false, task);
  const remedies: Readonly<Record<MisfitKind, string>> = {
    unreachable: "bring its agent (berthd) back, or see why it is not heard",
    ready: "see berth describe node for what its agent complains of",
    cordoned: "berth uncordon it, or tolerate berth.io/cordoned",
    taint: `tolerate ${what}, or take it off with berth taint`,
    label: `label it ${what}, or leave that out of nodeSelector`,
    affinity: `label it so that ${what}, or widen nodeAffinity`,
    runtime: `install the runtime handler ${what} there, or ask for another`,
    snapshotter: `configure the snapshotter ${what} there, or ask for another`,
    stopper: "see the condition Stopper in berth describe node, or choose another onNodeLoss",
    topology: `give it the label ${what}`,
    skew: `raise maxSkew above ${misfit.left}, say ScheduleAnyway, or add nodes to the emptier ${what || "ones"}`,
    near: `it ${said}: place that first, or make the affinity preferred`,
    apart: `it ${said}: move that, or make the anti-affinity preferred`,
    repelled: `it ${said}`,
    port: `free host port ${what}, or ask for another`,
    tasks: "raise its bound of tasks, or stop one there",
    cpu: `it ${said}: ask for less, stop something there, or raise its overcommit`,
    memory: `it ${said}: ask for less, stop something there, or raise its overcommit`,
  };
  return remedies[misfit.kind];
}
