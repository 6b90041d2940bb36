/**
 * How many placed tasks of a kind each failure domain has: what spread, affinity and anti-affinity ask.
 *
 * A counter is shared by all classes of tasks that ask the same, and moves with every task that is placed, so that each
 * decision sees the ones before it.
 */
import { formatSelector, selectorMatches } from "../selector.ts";
import type { PlacementTask, TaskTerm } from "./ask.ts";
import type { PlacementNode } from "./node.ts";

/** Node → count. */
export type CountsByNode = ReadonlyMap<string, number>;

export interface PlacedCounts {
  /** Wanted tasks of each workload, by its uid. */
  readonly workloads: ReadonlyMap<string, CountsByNode>;
  /** Of each {@link termKey}. */
  readonly terms: ReadonlyMap<string, CountsByNode>;
}

/** A workload that keeps others away: tasks that its term selects may not come into a domain that has one of its own. */
export interface Repeller {
  readonly workloadUid: string;
  readonly term: TaskTerm;
}

export const NOTHING_PLACED: PlacedCounts = { workloads: new Map(), terms: new Map() };

export function termKey({ namespace, selector }: Pick<TaskTerm, "namespace" | "selector">): string {
  return `${namespace}/${formatSelector(selector)}`;
}

export function termMatches(
  { namespace, selector }: TaskTerm,
  task: Pick<PlacementTask, "namespace" | "labels">,
): boolean {
  return namespace === task.namespace && selectorMatches(selector, task.labels);
}

/** The domain of a node: `=a` for a label's value a; without the label the empty text, which no label's value gives. */
export function domainOf(node: PlacementNode, topologyKey: string): string {
  if (topologyKey === "") return node.name;
  return Object.hasOwn(node.labels, topologyKey) ? `=${node.labels[topologyKey]}` : "";
}

export const hasDomain = (node: PlacementNode, topologyKey: string): boolean => domainOf(node, topologyKey) !== "";

export class TopologyCounter {
  readonly topologyKey: string;
  readonly matches: (task: PlacementTask) => boolean;
  readonly #unlabelled: boolean;
  readonly #counts = new Map<string, number>();
  total = 0;

  /** @param unlabelled are nodes without the label a domain together (for spread), or none (for affinity)? */
  constructor(topologyKey: string, matches: (task: PlacementTask) => boolean, unlabelled: boolean) {
    this.topologyKey = topologyKey;
    this.matches = matches;
    this.#unlabelled = unlabelled;
  }

  of(domain: string): number {
    return this.#counts.get(domain) ?? 0;
  }

  on(node: PlacementNode): number {
    return this.of(domainOf(node, this.topologyKey));
  }

  add(node: PlacementNode, count: number): void {
    const domain = domainOf(node, this.topologyKey);
    if (domain === "" && !this.#unlabelled) return;
    this.#counts.set(domain, this.of(domain) + count);
    this.total += count;
  }
}

/** The counters of one batch, each made when it is first asked for. */
export class Topology {
  readonly #nodes: ReadonlyMap<string, PlacementNode>;
  readonly #placed: PlacedCounts;
  readonly #counters = new Map<string, TopologyCounter>();
  /** What this batch did, for counters that are made later. */
  readonly #moves: { readonly task: PlacementTask; readonly node: PlacementNode; readonly count: 1 | -1 }[] = [];

  constructor(nodes: Iterable<PlacementNode>, placed: PlacedCounts) {
    this.#nodes = new Map(Array.from(nodes, (node) => [node.name, node]));
    this.#placed = placed;
  }

  ofWorkload(workloadUid: string, topologyKey: string): TopologyCounter {
    const counts = this.#placed.workloads.get(workloadUid);
    const made = new TopologyCounter(topologyKey, (task) => task.workloadUid === workloadUid, true);
    return this.#counter(`w ${workloadUid} ${topologyKey}`, made, counts);
  }

  ofTerm(term: TaskTerm): TopologyCounter {
    const key = termKey(term);
    const counts = this.#placed.terms.get(key);
    const made = new TopologyCounter(term.topologyKey, (task) => termMatches(term, task), false);
    return this.#counter(`t ${term.topologyKey} ${key}`, made, counts);
  }

  /** A task came onto the node (1), or did not after all (-1). */
  move(task: PlacementTask, node: PlacementNode, count: 1 | -1): void {
    this.#moves.push({ task, node, count });
    for (const counter of this.#counters.values()) if (counter.matches(task)) counter.add(node, count);
  }

  /** The one of that id; `made` becomes it when there is none yet. */
  #counter(id: string, made: TopologyCounter, counts: CountsByNode | undefined): TopologyCounter {
    const known = this.#counters.get(id);
    if (known !== undefined) return known;
    for (const [name, count] of counts ?? []) {
      const node = this.#nodes.get(name);
      if (node !== undefined) made.add(node, count);
    }
    for (const { task, node, count } of this.#moves) if (made.matches(task)) made.add(node, count);
    this.#counters.set(id, made);
    return made;
  }
}
