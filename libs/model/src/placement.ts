/**
 * Which node a task goes to. Pure: filter, then score, one task after the other, each seeing what the ones before it took.
 *
 * Invariant: a task is never placed on a node that fails a filter; in particular the declared cpu, memory, task count and
 * host ports of what is placed on a node never exceed what it has. When no node fits, the reason names why, for each.
 */
import { formatCpu, formatMemory } from "./quantity.ts";

export interface PlacementNode {
  readonly name: string;
  readonly ready: boolean;
  readonly cordoned: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly runtimeHandlers: readonly string[];
  readonly snapshotters: readonly string[];
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  /** Most tasks at a time. 0: no bound. */
  readonly maxTasks: number;
  /** What its tasks declare. */
  readonly usedCpuMillis: number;
  readonly usedMemoryBytes: number;
  readonly usedTasks: number;
  /** `tcp/8080` of its tasks. */
  readonly usedHostPorts: Iterable<string>;
}

export interface PlacementTask {
  readonly uid: string;
  readonly workloadUid: string;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly hostPorts: readonly string[];
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** Empty: the node's default. */
  readonly runtimeHandler: string;
  readonly snapshotter: string;
  /** A node label over whose values tasks of the workload are spread; empty: over nodes. */
  readonly spreadBy: string;
  /** The only node that will do; null: any. */
  readonly pinnedNode: string | null;
}

export type PlacementDecision =
  | { readonly uid: string; readonly node: string }
  | { readonly uid: string; readonly node: undefined; readonly reason: string };

/** How many tasks of each workload each node has: workload's uid → node → count. */
export type SpreadCounts = ReadonlyMap<string, ReadonlyMap<string, number>>;

export function placeTasks(
  tasks: readonly PlacementTask[],
  nodes: readonly PlacementNode[],
  spread: SpreadCounts,
): PlacementDecision[] {
  const candidates = nodes.map((node) => new Candidate(node));
  const counts = new Map([...spread].map(([uid, byNode]) => [uid, new Map(byNode)]));
  return tasks.map((task) => {
    const fitting = candidates.filter((candidate) => candidate.misfit(task) === undefined);
    let workloadCounts = counts.get(task.workloadUid);
    if (workloadCounts === undefined) counts.set(task.workloadUid, (workloadCounts = new Map()));
    const best = chooseBest(task, fitting, workloadCounts, candidates);
    if (best === undefined) return { uid: task.uid, node: undefined, reason: explain(task, candidates) };
    best.take(task);
    workloadCounts.set(best.node.name, (workloadCounts.get(best.node.name) ?? 0) + 1);
    return { uid: task.uid, node: best.node.name };
  });
}

/** Why a node will not do: `kind` groups nodes of the same reason, `left` is what they have of what is asked. */
interface Misfit {
  readonly kind: "ready" | "cordoned" | "label" | "runtime" | "snapshotter" | "port" | "tasks" | "cpu" | "memory";
  readonly what: string;
  readonly left: number;
}

/** A node with what this batch has put on it so far. */
class Candidate {
  readonly node: PlacementNode;
  #cpuMillis: number;
  #memoryBytes: number;
  #tasks: number;
  readonly #hostPorts: Set<string>;

  constructor(node: PlacementNode) {
    this.node = node;
    this.#cpuMillis = node.usedCpuMillis;
    this.#memoryBytes = node.usedMemoryBytes;
    this.#tasks = node.usedTasks;
    this.#hostPorts = new Set(node.usedHostPorts);
  }

  /** The first reason against it, in the order in which an operator would ask. */
  misfit(task: PlacementTask): Misfit | undefined {
    const { node } = this;
    if (!node.ready) return { kind: "ready", what: "", left: 0 };
    if (node.cordoned) return { kind: "cordoned", what: "", left: 0 };
    for (const [key, value] of Object.entries(task.nodeSelector)) {
      if (!Object.hasOwn(node.labels, key) || node.labels[key] !== value) {
        return { kind: "label", what: `${key}=${value}`, left: 0 };
      }
    }
    if (task.runtimeHandler !== "" && !node.runtimeHandlers.includes(task.runtimeHandler)) {
      return { kind: "runtime", what: task.runtimeHandler, left: 0 };
    }
    if (task.snapshotter !== "" && !node.snapshotters.includes(task.snapshotter)) {
      return { kind: "snapshotter", what: task.snapshotter, left: 0 };
    }
    const taken = task.hostPorts.find((port) => this.#hostPorts.has(port));
    if (taken !== undefined) return { kind: "port", what: taken, left: 0 };
    if (node.maxTasks > 0 && this.#tasks >= node.maxTasks) return { kind: "tasks", what: "", left: 0 };
    const cpuLeft = node.cpuMillis - this.#cpuMillis;
    if (task.cpuMillis > 0 && task.cpuMillis > cpuLeft) return { kind: "cpu", what: "", left: cpuLeft };
    const memoryLeft = node.memoryBytes - this.#memoryBytes;
    if (task.memoryBytes > 0 && task.memoryBytes > memoryLeft) return { kind: "memory", what: "", left: memoryLeft };
    return undefined;
  }

  /** The share of the scarcest resource that is taken: 0 for an empty node. */
  get load(): number {
    return Math.max(
      share(this.#cpuMillis, this.node.cpuMillis),
      share(this.#memoryBytes, this.node.memoryBytes),
      share(this.#tasks, this.node.maxTasks),
    );
  }

  get taskCount(): number {
    return this.#tasks;
  }

  take(task: PlacementTask): void {
    this.#cpuMillis += task.cpuMillis;
    this.#memoryBytes += task.memoryBytes;
    this.#tasks += 1;
    for (const port of task.hostPorts) this.#hostPorts.add(port);
  }
}

/** Fewest of the same workload in the spread domain, then on the node, then the least load, then the name. */
function chooseBest(
  task: PlacementTask,
  fitting: readonly Candidate[],
  counts: ReadonlyMap<string, number>,
  all: readonly Candidate[],
): Candidate | undefined {
  const usable = task.pinnedNode === null ? fitting : fitting.filter((c) => c.node.name === task.pinnedNode);
  const domains = task.spreadBy === "" ? undefined : domainCounts(task.spreadBy, counts, all);
  let best: Candidate | undefined;
  let bestScore: readonly number[] = [];
  for (const candidate of usable) {
    const onNode = counts.get(candidate.node.name) ?? 0;
    const inDomain = domains?.get(domainOf(candidate, task.spreadBy)) ?? onNode;
    const score = [inDomain, onNode, candidate.load, candidate.taskCount];
    const order = best === undefined ? -1 : compareScores(score, bestScore);
    if (order < 0 || (order === 0 && candidate.node.name < best!.node.name)) {
      best = candidate;
      bestScore = score;
    }
  }
  return best;
}

function domainCounts(
  label: string,
  counts: ReadonlyMap<string, number>,
  all: readonly Candidate[],
): ReadonlyMap<string, number> {
  const domains = new Map<string, number>();
  for (const candidate of all) {
    const domain = domainOf(candidate, label);
    domains.set(domain, (domains.get(domain) ?? 0) + (counts.get(candidate.node.name) ?? 0));
  }
  return domains;
}

/** Nodes without the label are one domain together. */
function domainOf(candidate: Candidate, label: string): string {
  return Object.hasOwn(candidate.node.labels, label) ? `=${candidate.node.labels[label]}` : "";
}

function compareScores(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const difference = value - b[index]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

const share = (used: number, capacity: number): number => (capacity > 0 ? used / capacity : 0);

/** `0 of 2 nodes fit: 1 lacks label disk=ssd, 1 has 200m cpu left of 500m asked`. */
function explain(task: PlacementTask, candidates: readonly Candidate[]): string {
  if (candidates.length === 0) return "no node has joined the fleet yet";
  const asked = task.pinnedNode === null ? candidates : candidates.filter((c) => c.node.name === task.pinnedNode);
  if (asked.length === 0) return `node ${task.pinnedNode} is not there any more`;
  const groups = new Map<string, { misfit: Misfit; count: number }>();
  for (const candidate of asked) {
    const misfit = candidate.misfit(task);
    if (misfit === undefined) continue;
    const key = `${misfit.kind}/${misfit.what}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { misfit, count: 1 });
    else {
      group.count += 1;
      if (misfit.left > group.misfit.left) group.misfit = misfit;
    }
  }
  const parts = [...groups.values()]
    .sort((a, b) => b.count - a.count)
    .map(({ misfit, count }) => `${count} ${describe(misfit, count > 1, task)}`);
  if (task.pinnedNode !== null)
    return `node ${task.pinnedNode} does not fit: ${parts.join(", ").replace(/^1 /, "it ")}`;
  return `0 of ${asked.length} ${asked.length === 1 ? "node fits" : "nodes fit"}: ${parts.join(", ")}`;
}

function describe(misfit: Misfit, several: boolean, task: PlacementTask): string {
  const lack = several ? "lack" : "lacks";
  const have = several ? "have" : "has";
  const are = several ? "are" : "is";
  const most = several ? " at most" : "";
  switch (misfit.kind) {
    case "ready":
      return `${are} not ready`;
    case "cordoned":
      return `${are} cordoned`;
    case "label":
      return `${lack} label ${misfit.what}`;
    case "runtime":
      return `${lack} runtime handler ${misfit.what}`;
    case "snapshotter":
      return `${lack} snapshotter ${misfit.what}`;
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
