/**
 * Tasks that are alike to placement, with what they ask resolved against the counters of a batch. What is decided for one of
 * them is decided for all: filters and scores are computed per class, not per task.
 */
import type { PlacementTask, SpreadRule, TaskTerm } from "./ask.ts";
import { termMatches, type Repeller, type Topology, type TopologyCounter } from "./topology.ts";

export interface SpreadAspect extends SpreadRule {
  readonly counter: TopologyCounter;
}

export interface TermAspect {
  readonly counter: TopologyCounter;
  readonly term: TaskTerm;
  /** Of a preferred term; 0 for a required one. */
  readonly weight: number;
  /** Would the task itself satisfy the term? Then the first of its kind may come where none is yet. */
  readonly matchesItself: boolean;
}

export interface TaskClass {
  /** One of them: its uid and nominated node are its own, all else is the class's. */
  readonly task: PlacementTask;
  readonly spread: readonly SpreadAspect[];
  readonly near: readonly TermAspect[];
  readonly apart: readonly TermAspect[];
  readonly preferNear: readonly TermAspect[];
  readonly preferApart: readonly TermAspect[];
  /** Domains that others keep free of such tasks. */
  readonly repelled: readonly TermAspect[];
  /** All counters above, each once. */
  readonly counters: readonly TopologyCounter[];
}

export function classKey(task: PlacementTask): string {
  const { workloadUid, cpuMillis, memoryBytes, hostPorts, runtimeHandler, snapshotter, image, labels } = task;
  return JSON.stringify([
    workloadUid,
    task.revision ?? 0,
    cpuMillis,
    memoryBytes,
    hostPorts,
    runtimeHandler,
    snapshotter,
    image,
    labels,
    task.pinnedNode !== null,
    task.fence === true,
  ]);
}

/** Besides what a workload asks, its tasks are always spread over nodes where nothing else decides. */
const OVER_NODES: SpreadRule = { topologyKey: "", maxSkew: 1, hard: false };

export function taskClass(task: PlacementTask, topology: Topology, repellers: readonly Repeller[]): TaskClass {
  const { rules, workloadUid } = task;
  const aspect = (term: TaskTerm, weight = 0): TermAspect => ({
    counter: topology.ofTerm(term),
    term,
    weight,
    matchesItself: termMatches(term, task),
  });
  const spread = task.pinnedNode === null ? spreadRules(rules.spread) : [];
  const parts = {
    spread: spread.map((rule) => ({ ...rule, counter: topology.ofWorkload(workloadUid, rule.topologyKey) })),
    near: rules.taskAffinity.required.map((term) => aspect(term)),
    apart: rules.taskAntiAffinity.required.map((term) => aspect(term)),
    preferNear: rules.taskAffinity.preferred.map(({ term, weight }) => aspect(term, weight)),
    preferApart: rules.taskAntiAffinity.preferred.map(({ term, weight }) => aspect(term, weight)),
    repelled: repellers
      .filter((each) => each.workloadUid !== workloadUid && termMatches(each.term, task))
      .map((each) => ({
        counter: topology.ofWorkload(each.workloadUid, each.term.topologyKey),
        term: each.term,
        weight: 0,
        matchesItself: false,
      })),
  };
  const counters = new Set(Object.values(parts).flatMap((aspects) => aspects.map(({ counter }) => counter)));
  return { task, ...parts, counters: [...counters] };
}

function spreadRules(asked: readonly SpreadRule[]): readonly SpreadRule[] {
  return asked.some((rule) => rule.topologyKey === "") ? asked : [...asked, OVER_NODES];
}
