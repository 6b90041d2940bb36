/**
 * The nodes that may do for a class of tasks, ordered so that the best is found without looking at all of them.
 *
 * Nodes that the class's counters cannot tell apart (the same domains, as many of the counted tasks on the node itself) form a
 * group: what spread and affinity say is the same for all of them. Within a group a heap orders them by what is the node's
 * own. Placing makes nodes only worse (load rises), so an entry that is out of date is too good: it is corrected when it comes
 * to the top, and the first that is right is the best. A decision costs the number of groups and a few heap steps.
 *
 * Invariant: `best` is what a look at every node gives (`plain.ts` is that look; a property test compares).
 */
import { isNear, roomMisfits, staticMisfits, firstMisfit, topologyMisfits, type Misfit } from "./filter.ts";
import type { Candidate } from "./node.ts";
import { loadPoints, staticParts, topologyParts, totalOf, type ScoreParts, type StaticParts, type WarmNodes } from "./score.ts"; // prettier-ignore
import type { TaskClass } from "./task-class.ts";
import { domainOf, type TopologyCounter } from "./topology.ts";

export interface Best {
  readonly candidate: Candidate;
  readonly parts: ScoreParts;
}

interface Entry {
  /** Of the candidate. */
  readonly index: number;
  points: number;
  tasks: number;
  /** Of the candidate when the entry was found to be right; -1: not looked at yet. */
  version: number;
}

interface Group {
  /** For each counter of the class: its domain; for one over nodes, how many the node itself has. */
  readonly domains: readonly (string | number)[];
  readonly heap: Entry[];
  /** Nodes of the group, with room or without. */
  members: number;
}

export class ClassIndex {
  readonly cls: TaskClass;
  /** The first reason against nodes that never will do in this batch. By the candidate's index, as all beneath. */
  readonly #refused: (Misfit | undefined)[] = [];
  readonly #candidates: readonly Candidate[];
  readonly #groups = new Map<string, Group>();
  readonly #groupOf: (Group | undefined)[] = [];
  /** What is fixed for the class and a node. */
  readonly #fixed: number[] = [];
  readonly #warm: WarmNodes;
  /** Where a counter stands in the groups' domains. */
  readonly #at: ReadonlyMap<TopologyCounter, number>;

  /** @param candidates in the order of their names */
  constructor(cls: TaskClass, candidates: readonly Candidate[], warm: WarmNodes) {
    this.cls = cls;
    this.#candidates = candidates;
    this.#warm = warm;
    this.#at = new Map(cls.counters.map((counter, at) => [counter, at]));
    for (const [index, candidate] of candidates.entries()) {
      const misfit = firstMisfit(staticMisfits(cls, candidate.node));
      this.#refused.push(misfit);
      this.#groupOf.push(undefined);
      const { image, nodeAffinity, taint } = misfit === undefined ? staticParts(cls, candidate.node, warm) : NO_POINTS;
      this.#fixed.push(image + nodeAffinity + taint);
      if (misfit === undefined) this.#join(index);
    }
  }

  /** The least count among the domains that have a node for this class, for each hard spread rule. */
  floors(): number[] {
    return this.cls.spread.map(({ counter, hard }) => {
      if (!hard) return 0;
      const at = this.#at.get(counter)!;
      let least = Number.POSITIVE_INFINITY;
      for (const group of this.#groups.values()) {
        if (group.members > 0) least = Math.min(least, countIn(group, at, counter));
      }
      return least;
    });
  }

  /** Undefined when no node will do. */
  best(): Best | undefined {
    const floors = this.floors();
    let best: { entry: Entry; group: Group; total: number } | undefined;
    for (const group of this.#groups.values()) {
      if (!this.#admits(group, floors)) continue;
      const entry = this.#top(group);
      if (entry === undefined) continue;
      const total = this.#sharedPoints(group) + entry.points;
      if (best === undefined || total > best.total || (total === best.total && isBefore(entry, best.entry, true))) {
        best = { entry, group, total };
      }
    }
    return best === undefined ? undefined : this.#bestOf(best.entry.index);
  }

  partsOf(index: number): ScoreParts {
    const candidate = this.#candidates[index]!;
    return {
      ...topologyParts(this.cls, (counter) => counter.on(candidate.node)),
      load: loadPoints(this.cls.task, candidate),
      ...staticParts(this.cls, candidate.node, this.#warm),
    };
  }

  /** A task that the class's counters see came onto the node, or left it: it belongs to another group now. */
  relocate(index: number): void {
    if (this.#groupOf[index] !== undefined) this.#join(index);
  }

  /** The node became better: something that was placed on it is taken back. */
  refresh(index: number): void {
    const group = this.#groupOf[index];
    if (group !== undefined) push(group.heap, this.#entry(index));
  }

  #bestOf(index: number): Best {
    return { candidate: this.#candidates[index]!, parts: this.partsOf(index) };
  }

  #join(index: number): void {
    const { node } = this.#candidates[index]!;
    const domains = this.cls.counters.map((counter) =>
      counter.topologyKey === "" ? counter.on(node) : domainOf(node, counter.topologyKey),
    );
    // No label's value has a line break.
    const key = domains.join("\n");
    let group = this.#groups.get(key);
    if (group === undefined) this.#groups.set(key, (group = { domains, heap: [], members: 0 }));
    const before = this.#groupOf[index];
    if (before !== undefined) before.members -= 1;
    group.members += 1;
    this.#groupOf[index] = group;
    push(group.heap, this.#entry(index));
  }

  #entry(index: number): Entry {
    const candidate = this.#candidates[index]!;
    const points = this.#fixed[index]! + loadPoints(this.cls.task, candidate);
    return { index, points, tasks: candidate.tasks, version: -1 };
  }

  #admits(group: Group, floors: readonly number[]): boolean {
    const { cls } = this;
    if (group.members === 0) return false;
    return (
      cls.spread.every(
        ({ counter, hard, maxSkew }, at) => !hard || this.#count(group, counter) + 1 - floors[at]! <= maxSkew,
      ) &&
      cls.near.every((aspect) => isNear(aspect, this.#count(group, aspect.counter))) &&
      cls.apart.every(({ counter }) => this.#count(group, counter) === 0) &&
      cls.repelled.every(({ counter }) => this.#isUnlabelled(group, counter) || this.#count(group, counter) === 0)
    );
  }

  /** The best entry that is right as it stands; those above it are corrected or dropped. */
  #top(group: Group): Entry | undefined {
    const { heap } = group;
    for (let top = heap[0]; top !== undefined; top = heap[0]) {
      const candidate = this.#candidates[top.index]!;
      if (this.#groupOf[top.index] !== group) {
        pop(heap);
        continue;
      }
      if (top.version === candidate.version) return top;
      if (!candidate.hasRoom(this.cls.task)) {
        pop(heap);
        continue;
      }
      top.version = candidate.version;
      const points = this.#fixed[top.index]! + loadPoints(this.cls.task, candidate);
      if (points === top.points && candidate.tasks === top.tasks) return top;
      top.points = points;
      top.tasks = candidate.tasks;
      sink(heap, 0);
    }
    return undefined;
  }

  #count(group: Group, counter: TopologyCounter): number {
    return countIn(group, this.#at.get(counter)!, counter);
  }

  #isUnlabelled(group: Group, counter: TopologyCounter): boolean {
    return group.domains[this.#at.get(counter)!] === "";
  }

  /** What stands for and against each node, by a look at all of them: for the record of a decision. */
  report(most: number): ClassReport {
    const floors = this.floors();
    const leading: Ranked[] = [];
    const refused = this.#refused.flatMap((misfit, index): NodeMisfit[] => misfit === undefined ? [] : [{ index, misfit }]); // prettier-ignore
    for (const group of this.#groups.values()) {
      const admitted = this.#admits(group, floors);
      const shared = this.#sharedPoints(group);
      for (const { index, points, tasks } of group.heap) {
        const misfit = admitted ? this.#roomMisfit(index) : this.#refusal(index, floors);
        if (misfit !== undefined) refused.push({ index, misfit });
        else insertRanked(leading, { index, total: shared + points, tasks }, most);
      }
    }
    const named = refused.sort((a, b) => a.index - b.index).map(({ index, misfit }) => ({ name: this.#candidates[index]!.node.name, misfit })); // prettier-ignore
    const fit = this.#candidates.length - refused.length;
    return {
      nodes: this.#candidates.length,
      fit,
      leading: leading.map(({ index }) => this.#bestOf(index)),
      refused: named,
    };
  }

  #roomMisfit(index: number): Misfit | undefined {
    const candidate = this.#candidates[index]!;
    return candidate.hasRoom(this.cls.task) ? undefined : firstMisfit(roomMisfits(this.cls.task, candidate));
  }

  #refusal(index: number, floors: readonly number[]): Misfit | undefined {
    return firstMisfit(topologyMisfits(this.cls, this.#candidates[index]!.node, floors));
  }

  #sharedPoints(group: Group): number {
    const { spread, taskAffinity } = topologyParts(this.cls, (counter) => this.#count(group, counter));
    return spread + taskAffinity;
  }
}

interface Ranked {
  readonly index: number;
  readonly total: number;
  readonly tasks: number;
}

/** Keeps the `most` best in order. */
function insertRanked(leading: Ranked[], one: Ranked, most: number): void {
  const last = leading[most - 1];
  if (last !== undefined && last.total > one.total) return;
  const at = leading.findLastIndex((each) => compareRanked(each, one) < 0) + 1;
  if (at >= most) return;
  leading.splice(at, 0, one);
  if (leading.length > most) leading.pop();
}

const compareRanked = (a: Ranked, b: Ranked): number => b.total - a.total || a.tasks - b.tasks || a.index - b.index;

interface NodeMisfit {
  readonly index: number;
  readonly misfit: Misfit;
}

export interface ClassReport {
  readonly nodes: number;
  readonly fit: number;
  /** The best, in their order. */
  readonly leading: readonly Best[];
  /** All others, with the first reason against each. */
  readonly refused: readonly { readonly name: string; readonly misfit: Misfit }[];
}

const NO_POINTS: StaticParts = { image: 0, nodeAffinity: 0, taint: 0 };

/** The better one first. */
export function compareBest(a: Best, b: Best): number {
  return (
    totalOf(b.parts) - totalOf(a.parts) ||
    a.candidate.tasks - b.candidate.tasks ||
    (a.candidate.node.name < b.candidate.node.name ? -1 : 1)
  );
}

function countIn(group: Group, at: number, counter: TopologyCounter): number {
  const domain = group.domains[at]!;
  return typeof domain === "number" ? domain : counter.of(domain);
}

/** @param equal their points are known to be equal in all */
function isBefore(a: Entry, b: Entry, equal = false): boolean {
  if (!equal && a.points !== b.points) return a.points > b.points;
  return a.tasks === b.tasks ? a.index < b.index : a.tasks < b.tasks;
}

function push(heap: Entry[], entry: Entry): void {
  let at = heap.push(entry) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(entry, heap[parent]!)) return;
    heap[at] = heap[parent]!;
    heap[parent] = entry;
    at = parent;
  }
}

function pop(heap: Entry[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  heap[0] = last;
  sink(heap, 0);
}

function sink(heap: Entry[], from: number): void {
  const entry = heap[from]!;
  let at = from;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) return;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
    if (!isBefore(heap[child]!, entry)) return;
    heap[at] = heap[child]!;
    heap[child] = entry;
    at = child;
  }
}
