/**
 * Preemption: which placed tasks of lower priority are to be stopped so that one that fits nowhere fits. Pure.
 *
 * Invariants:
 *  1. Only tasks of strictly lower priority are stopped, of each workload no more than it may lose at once.
 *  2. A task is stopped only when, with its room free, the one that waits fits; for a gang, when then all of it fits.
 *  3. Each that is stopped is needed: without it there would be no room.
 *  4. Nothing is placed here: the task is nominated for the node, its room is kept, and it is placed by an ordinary decision
 *     once what was stopped has left.
 * Chosen is the node whose most important victim is the least important, then that with the fewest victims, then the least sum
 * of their priorities, then the first name.
 */
import type { PlacementTask } from "./ask.ts";
import type { PlacementBatch, PlacementUnit } from "./batch.ts";
import { firstMisfit, staticMisfits, topologyMisfits } from "./filter.ts";
import type { Candidate } from "./node.ts";
import { floorsByLook } from "./plain.ts";
import { NOT_READY, UNREACHABLE } from "./taints.ts";

/** A task that is on a node. */
export interface PlacedTask {
  readonly uid: string;
  readonly workloadUid: string;
  readonly node: string;
  readonly priority: number;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly hostPorts: readonly string[];
  /** The order in which tasks came: the newest of equals is stopped first. */
  readonly createdAtMs: number;
}

export interface RoomInput {
  /** Those that may be stopped. */
  readonly placed: readonly PlacedTask[];
  /** Those that are stopping already: their room will be free. */
  readonly leaving: readonly PlacedTask[];
  /** How many more tasks of a workload may go; one that is not named has no bound. */
  readonly allowance: ReadonlyMap<string, number>;
}

export interface Nomination {
  readonly uid: string;
  readonly node: string;
  /** None when what is leaving the node makes room enough. */
  readonly victims: readonly PlacedTask[];
}

/** One for each task that room can be made for; others are left out. */
export function makeRoom(batch: PlacementBatch, units: readonly PlacementUnit[], input: RoomInput): Nomination[] {
  const maker = new RoomMaker(batch, input);
  return units.flatMap((unit) => maker.forUnit(unit) ?? []);
}

interface Freed {
  cpuMillis: number;
  memoryBytes: number;
  tasks: number;
  readonly ports: Map<string, number>;
}

interface Choice {
  readonly candidate: Candidate;
  readonly victims: readonly PlacedTask[];
}

class RoomMaker {
  readonly #batch: PlacementBatch;
  readonly #byNode: ReadonlyMap<string, PlacedTask[]>;
  readonly #freed = new Map<string, Freed>();
  readonly #claimed = new Set<string>();
  readonly #allowance: Map<string, number>;

  constructor(batch: PlacementBatch, { placed, leaving, allowance }: RoomInput) {
    this.#batch = batch;
    this.#allowance = new Map(allowance);
    this.#byNode = Map.groupBy([...placed].sort(leastFirst), (task) => task.node);
    for (const task of leaving) free(this.#freedOn(task.node), task, 1);
  }

  /** Undefined when there is no way to make room for all of the unit. */
  forUnit(unit: PlacementUnit): Nomination[] | undefined {
    const done: { readonly task: PlacementTask; readonly choice: Choice }[] = [];
    for (const task of unit) {
      this.#batch.release(task);
      const fits = unit.length > 1 ? this.#batch.best(task) : undefined;
      const choice = fits === undefined ? this.#choose(task) : { candidate: fits.candidate, victims: [] };
      if (choice === undefined) {
        for (const { task: other, choice: theirs } of done.reverse()) this.#undo(other, theirs);
        return undefined;
      }
      this.#claim(task, choice);
      done.push({ task, choice });
    }
    return done.map(({ task, choice }) => ({
      uid: task.uid,
      node: choice.candidate.node.name,
      victims: choice.victims,
    }));
  }

  /** With its node taken: those of the unit that follow look for their place beside it. */
  #claim(task: PlacementTask, { candidate, victims }: Choice): void {
    this.#batch.take(task, candidate);
    for (const victim of victims) this.#spend(victim, 1);
  }

  #undo(task: PlacementTask, { candidate, victims }: Choice): void {
    this.#batch.giveBack(task, candidate);
    for (const victim of victims) this.#spend(victim, -1);
  }

  #spend(victim: PlacedTask, sign: 1 | -1): void {
    free(this.#freedOn(victim.node), victim, sign);
    if (sign === 1) this.#claimed.add(victim.uid);
    else this.#claimed.delete(victim.uid);
    const left = this.#allowance.get(victim.workloadUid);
    if (left !== undefined) this.#allowance.set(victim.workloadUid, left - sign);
  }

  #choose(task: PlacementTask): Choice | undefined {
    if (!task.rules.preempts) return undefined;
    const cls = this.#batch.classOf(task);
    const { candidates } = this.#batch;
    const floors = floorsByLook(cls, candidates);
    let best: Choice | undefined;
    // Where room is being made already goes first, so that of equal ways nothing is stopped in vain.
    const nominated = candidates.filter(({ node }) => node.name === task.nominatedNode);
    for (const candidate of [...nominated, ...candidates]) {
      const { node } = candidate;
      if (task.pinnedNode !== null && task.pinnedNode !== node.name) continue;
      if (!this.#byNode.has(node.name) && !this.#freed.has(node.name)) continue;
      // Of a silent node nobody can say when what is stopped has left, even for a task that tolerates silence.
      if (node.taints.some(({ key }) => key === UNREACHABLE.key || key === NOT_READY.key)) continue;
      if (firstMisfit(staticMisfits(cls, node)) !== undefined) continue;
      if (firstMisfit(topologyMisfits(cls, node, floors)) !== undefined) continue;
      const victims = this.#victimsOn(candidate, task);
      if (victims !== undefined && (best === undefined || isLess(victims, best.victims))) best = { candidate, victims };
    }
    return best;
  }

  /** The fewest and lowest that make room for the task there; undefined when even all of them do not. */
  #victimsOn(candidate: Candidate, task: PlacementTask): PlacedTask[] | undefined {
    const freed = this.#freed.get(candidate.node.name) ?? NOTHING_FREED;
    if (hasRoom(candidate, task, freed, [])) return [];
    const eligible = this.#eligible(candidate.node.name, task.rules.priority);
    if (eligible.length === 0 || !hasRoom(candidate, task, freed, eligible)) return undefined;
    let victims: PlacedTask[] = eligible;
    // The most important first: who need not go stays.
    for (const spared of eligible.toReversed()) {
      const fewer = victims.filter((victim) => victim !== spared);
      if (hasRoom(candidate, task, freed, fewer)) victims = fewer;
    }
    return victims;
  }

  /** Least important first. */
  #eligible(node: string, priority: number): PlacedTask[] {
    const left = new Map<string, number>();
    return (this.#byNode.get(node) ?? []).filter((victim) => {
      if (victim.priority >= priority || this.#claimed.has(victim.uid)) return false;
      const allowed =
        left.get(victim.workloadUid) ?? this.#allowance.get(victim.workloadUid) ?? Number.POSITIVE_INFINITY;
      left.set(victim.workloadUid, allowed - 1);
      return allowed > 0;
    });
  }

  #freedOn(node: string): Freed {
    let freed = this.#freed.get(node);
    if (freed === undefined) {
      freed = { cpuMillis: 0, memoryBytes: 0, tasks: 0, ports: new Map() };
      this.#freed.set(node, freed);
    }
    return freed;
  }
}

const NOTHING_FREED: Freed = { cpuMillis: 0, memoryBytes: 0, tasks: 0, ports: new Map() };

function free(freed: Freed, task: PlacedTask, sign: 1 | -1): void {
  freed.cpuMillis += sign * task.cpuMillis;
  freed.memoryBytes += sign * task.memoryBytes;
  freed.tasks += sign;
  for (const port of task.hostPorts) freed.ports.set(port, (freed.ports.get(port) ?? 0) + sign);
}

function hasRoom(candidate: Candidate, task: PlacementTask, freed: Freed, victims: readonly PlacedTask[]): boolean {
  const { node } = candidate;
  const sum = { ...freed, ports: new Map(freed.ports) };
  for (const victim of victims) free(sum, victim, 1);
  const { cpuMillis, memoryBytes, tasks, ports } = sum;
  return (
    (node.maxTasks === 0 || candidate.tasks - tasks < node.maxTasks) &&
    (task.cpuMillis === 0 || task.cpuMillis <= node.cpuMillis - candidate.cpuMillis + cpuMillis) &&
    (task.memoryBytes === 0 || task.memoryBytes <= node.memoryBytes - candidate.memoryBytes + memoryBytes) &&
    task.hostPorts.every((port) => candidate.holders(port) <= (ports.get(port) ?? 0))
  );
}

function leastFirst(a: PlacedTask, b: PlacedTask): number {
  return a.priority - b.priority || b.createdAtMs - a.createdAtMs || (a.uid < b.uid ? -1 : 1);
}

/** Does it hurt less to stop these? */
function isLess(victims: readonly PlacedTask[], than: readonly PlacedTask[]): boolean {
  const worst = (tasks: readonly PlacedTask[]): number =>
    tasks.reduce((most, { priority }) => Math.max(most, priority), Number.NEGATIVE_INFINITY);
  const sum = (tasks: readonly PlacedTask[]): number => tasks.reduce((total, { priority }) => total + priority, 0);
  const [a, b] = [worst(victims), worst(than)];
  if (a !== b) return a < b;
  if (victims.length !== than.length) return victims.length < than.length;
  return sum(victims) < sum(than);
}
