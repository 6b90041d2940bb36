/**
 * Decides for many tasks, one after the other, each seeing what the ones before it took: higher priority first, then in the
 * order given. Pure: the same input gives the same decisions.
 *
 * Invariants:
 *  1. A task is never placed on a node that fails a filter. In particular what is placed on a node never exceeds what may be
 *     promised of it, and no host port is given twice.
 *  2. Of a gang either all tasks in the batch are placed or none.
 *  3. Room that is being made for a task (a reservation) is kept from all others that are not of higher priority.
 */
import type { PlacementTask } from "./ask.ts";
import { ClassIndex, type Best, type ClassReport } from "./class-index.ts";
import { firstMisfit, misfits } from "./filter.ts";
import { Candidate, type PlacementNode } from "./node.ts";
import { bestByLook, floorsByLook } from "./plain.ts";
import { explainUnplaced } from "./reason.ts";
import { scoreParts, type ScoreParts, type WarmNodes } from "./score.ts";
import { classKey, taskClass, type TaskClass } from "./task-class.ts";
import { Topology, type PlacedCounts, type Repeller } from "./topology.ts";

export interface PlacementFleet {
  readonly nodes: readonly PlacementNode[];
  readonly placed: PlacedCounts;
  readonly repellers: readonly Repeller[];
  readonly warm: WarmNodes;
  /** Unplaced tasks for which room is being made, those of the batch among them. */
  readonly reservations: readonly PlacementTask[];
}

export type PlacementDecision =
  | { readonly uid: string; readonly node: string; readonly parts: ScoreParts }
  | { readonly uid: string; readonly node: undefined; readonly reason: string };

/** A task, or all tasks of a gang. */
export type PlacementUnit = readonly PlacementTask[];

export class PlacementBatch {
  readonly warm: WarmNodes;
  /** In the order of their names. */
  readonly candidates: readonly Candidate[];
  readonly #fleet: PlacementFleet;
  readonly #plain: boolean;
  readonly #reportMost: number;
  /** As things stood when the first task of a class was decided, where asked for. */
  readonly reports = new Map<TaskClass, ClassReport>();
  readonly #byName: ReadonlyMap<string, number>;
  readonly #topology: Topology;
  readonly #classes = new Map<string, TaskClass>();
  readonly #indexes = new Map<TaskClass, ClassIndex>();
  /** Whose groups change when a task of a class comes onto a node. */
  readonly #touched = new Map<TaskClass, readonly ClassIndex[]>();
  readonly #waiting: PlacementTask[];
  readonly #reserved = new Map<string, PlacementTask>();

  /**
   * @param options.plain by a look at every node, for the test that compares
   * @param options.reportMost how many of the best nodes a report names; 0: no reports
   */
  constructor(fleet: PlacementFleet, options: { readonly plain?: boolean; readonly reportMost?: number } = {}) {
    this.#fleet = fleet;
    this.#reportMost = options.reportMost ?? 0;
    this.#plain = options.plain ?? false;
    this.warm = fleet.warm;
    const nodes = [...fleet.nodes].sort((a, b) => (a.name < b.name ? -1 : 1));
    this.candidates = nodes.map((node) => new Candidate(node));
    this.#byName = new Map(nodes.map(({ name }, index) => [name, index]));
    this.#topology = new Topology(nodes, fleet.placed);
    this.#waiting = byPriority(fleet.reservations);
  }

  /** In the order of the tasks. */
  place(tasks: readonly PlacementTask[]): PlacementDecision[] {
    const decisions = new Map<string, PlacementDecision>();
    for (const unit of unitsOf(tasks))
      for (const decision of this.#placeUnit(unit)) decisions.set(decision.uid, decision);
    return tasks.map((task) => decisions.get(task.uid)!);
  }

  classOf(task: PlacementTask): TaskClass {
    const key = classKey(task);
    let cls = this.#classes.get(key);
    if (cls === undefined) this.#classes.set(key, (cls = taskClass(task, this.#topology, this.#fleet.repellers)));
    return cls;
  }

  /** Of a task that more than one node may do for. */
  indexOf(cls: TaskClass): ClassIndex {
    let index = this.#indexes.get(cls);
    if (index === undefined) {
      index = new ClassIndex(cls, this.candidates, this.warm);
      this.#indexes.set(cls, index);
      if (this.#reportMost > 0) this.reports.set(cls, index.report(this.#reportMost));
      this.#touched.clear();
    }
    return index;
  }

  candidate(name: string): Candidate | undefined {
    const index = this.#byName.get(name);
    return index === undefined ? undefined : this.candidates[index];
  }

  /** The best node for the task as things stand; nothing is taken. */
  best(task: PlacementTask): Best | undefined {
    const cls = this.classOf(task);
    if (task.pinnedNode !== null) {
      const pinned = this.candidate(task.pinnedNode);
      return pinned === undefined ? undefined : bestByLook(cls, [pinned], this.warm);
    }
    return this.#plain ? bestByLook(cls, this.candidates, this.warm) : this.indexOf(cls).best();
  }

  /** Puts the task on the node, for all that is decided after it. */
  take(task: PlacementTask, candidate: Candidate): void {
    candidate.take(task);
    this.#move(task, candidate, 1);
  }

  giveBack(task: PlacementTask, candidate: Candidate): void {
    candidate.giveBack(task);
    this.#move(task, candidate, -1);
    this.#refresh(candidate);
  }

  /** Keeps room for a task that is to come; it is not there, so those who look for it or avoid it do not see it. */
  reserve(task: PlacementTask, node: string): void {
    const candidate = this.candidate(node);
    if (candidate === undefined || this.#reserved.has(task.uid)) return;
    candidate.take(task);
    this.#reserved.set(task.uid, { ...task, nominatedNode: node });
  }

  release(task: PlacementTask): void {
    const reserved = this.#reserved.get(task.uid);
    if (reserved === undefined) return;
    this.#reserved.delete(task.uid);
    const candidate = this.candidate(reserved.nominatedNode!)!;
    candidate.giveBack(task);
    this.#refresh(candidate);
  }

  reasonFor(task: PlacementTask): string {
    const cls = this.classOf(task);
    const asked = task.pinnedNode === null ? this.candidates : [this.candidate(task.pinnedNode)].filter((c) => c !== undefined); // prettier-ignore
    const floors = floorsByLook(cls, asked);
    const found = asked.flatMap((candidate) => firstMisfit(misfits(cls, candidate, floors)) ?? []);
    return explainUnplaced(task, this.candidates.length, asked.length, found);
  }

  #placeUnit(unit: PlacementUnit): PlacementDecision[] {
    this.#activateReservations(unit[0]!.rules.priority);
    const placed: { readonly task: PlacementTask; readonly best: Best }[] = [];
    for (const task of unit) {
      const best = this.#placeOne(task);
      if (best !== undefined) {
        placed.push({ task, best });
        continue;
      }
      // Before what the others took is given back: it is why this one does not fit.
      const reason = this.#reasons(task);
      for (const { task: other, best: theirs } of placed.reverse()) this.giveBack(other, theirs.candidate);
      for (const other of unit) if (other.nominatedNode !== null) this.reserve(other, other.nominatedNode);
      return unit.map(({ uid }) => ({ uid, node: undefined, reason: ofGang(unit, placed.length, reason) }));
    }
    return placed.map(({ task, best }) => ({ uid: task.uid, node: best.candidate.node.name, parts: best.parts }));
  }

  #placeOne(task: PlacementTask): Best | undefined {
    const best = this.#bestWithOwnRoom(task);
    if (best === undefined) return undefined;
    this.release(task);
    this.take(task, best.candidate);
    return best;
  }

  /** Where room was made for it, if it fits there by now; else anywhere. */
  #bestWithOwnRoom(task: PlacementTask): Best | undefined {
    const nominated = task.nominatedNode === null ? undefined : this.candidate(task.nominatedNode);
    if (nominated !== undefined) {
      const wasReserved = this.#reserved.has(task.uid);
      this.release(task);
      const floors = floorsByLook(this.classOf(task), this.candidates);
      const fits = firstMisfit(misfits(this.classOf(task), nominated, floors)) === undefined;
      if (fits) return { candidate: nominated, parts: scoreParts(this.classOf(task), nominated, this.warm) };
      if (wasReserved) this.reserve(task, task.nominatedNode!);
    }
    return this.best(task);
  }

  /** From here on tasks are of at most this priority. */
  #activateReservations(priority: number): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (next.rules.priority < priority) return;
      this.#waiting.shift();
      this.reserve(next, next.nominatedNode!);
    }
  }

  readonly #told = new Map<TaskClass, string>();

  /** One reason for all of a class: to look at every node for each of a thousand that do not fit would take long. */
  #reasons(task: PlacementTask): string {
    if (task.pinnedNode !== null) return this.reasonFor(task);
    const cls = this.classOf(task);
    let reason = this.#told.get(cls);
    if (reason === undefined) this.#told.set(cls, (reason = this.reasonFor(task)));
    return reason;
  }

  #move(task: PlacementTask, candidate: Candidate, count: 1 | -1): void {
    const cls = this.classOf(task);
    this.#topology.move(task, candidate.node, count);
    let touched = this.#touched.get(cls);
    if (touched === undefined) {
      touched = [...this.#indexes.values()].filter((index) =>
        index.cls.counters.some((counter) => counter.topologyKey === "" && counter.matches(task)),
      );
      this.#touched.set(cls, touched);
    }
    const at = this.#byName.get(candidate.node.name)!;
    for (const index of touched) index.relocate(at);
  }

  #refresh(candidate: Candidate): void {
    const at = this.#byName.get(candidate.node.name)!;
    for (const index of this.#indexes.values()) index.refresh(at);
  }
}

/** Gangs together, at the place of their first task; higher priority first. */
export function unitsOf(tasks: readonly PlacementTask[]): PlacementUnit[] {
  const units = new Map<string, PlacementTask[]>();
  for (const task of byPriority(tasks)) {
    const key = task.rules.gang ? `gang ${task.workloadUid}` : task.uid;
    const unit = units.get(key);
    if (unit === undefined) units.set(key, [task]);
    else unit.push(task);
  }
  return [...units.values()];
}

function byPriority(tasks: readonly PlacementTask[]): PlacementTask[] {
  return [...tasks].sort((a, b) => b.rules.priority - a.rules.priority);
}

function ofGang(unit: PlacementUnit, fit: number, reason: string): string {
  return unit.length === 1 ? reason : `${fit} of ${unit.length} tasks of the gang fit together; ${reason}`;
}
