/** A node as placement counts it: what may be promised of it, and what is. */
import type { PlacementTask } from "./ask.ts";
import type { Taint } from "./taints.ts";

export interface PlacementNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The operator's and those by condition. */
  readonly taints: readonly Taint[];
  readonly runtimeHandlers: readonly string[];
  readonly snapshotters: readonly string[];
  /** It ends fenced tasks by itself when its lease runs out. */
  readonly stopper?: boolean;
  /** What may be promised: the capacity times the node's factor of overcommit. */
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

type Room = Pick<PlacementTask, "cpuMillis" | "memoryBytes" | "hostPorts">;

/** A node with what this batch has put on it so far. */
export class Candidate {
  readonly node: PlacementNode;
  cpuMillis: number;
  memoryBytes: number;
  tasks: number;
  /** Raised by each change. */
  version = 0;
  /** How many hold each port: reservations may double one that is still held. */
  readonly #ports = new Map<string, number>();

  constructor(node: PlacementNode) {
    this.node = node;
    this.cpuMillis = node.usedCpuMillis;
    this.memoryBytes = node.usedMemoryBytes;
    this.tasks = node.usedTasks;
    for (const port of node.usedHostPorts) this.#hold(port, 1);
  }

  take(room: Room): void {
    this.#change(room, 1);
  }

  giveBack(room: Room): void {
    this.#change(room, -1);
  }

  /** More than one where a reservation waits for what holds it. */
  holders(port: string): number {
    return this.#ports.get(port) ?? 0;
  }

  holdsPort(port: string): boolean {
    return this.holders(port) > 0;
  }

  hasRoom(task: Room): boolean {
    const { node } = this;
    return (
      (node.maxTasks === 0 || this.tasks < node.maxTasks) &&
      (task.cpuMillis === 0 || task.cpuMillis <= node.cpuMillis - this.cpuMillis) &&
      (task.memoryBytes === 0 || task.memoryBytes <= node.memoryBytes - this.memoryBytes) &&
      task.hostPorts.every((port) => !this.holdsPort(port))
    );
  }

  /** The share of the scarcest resource that would be taken with this task, in thousandths: it never falls as tasks come. */
  loadWith(task: Room): number {
    const { node } = this;
    const most = Math.max(
      share(this.cpuMillis + task.cpuMillis, node.cpuMillis),
      share(this.memoryBytes + task.memoryBytes, node.memoryBytes),
      share(this.tasks + 1, node.maxTasks),
    );
    return Math.round(most * 1_000);
  }

  #change({ cpuMillis, memoryBytes, hostPorts }: Room, sign: 1 | -1): void {
    this.cpuMillis += sign * cpuMillis;
    this.memoryBytes += sign * memoryBytes;
    this.tasks += sign;
    this.version += 1;
    for (const port of hostPorts) this.#hold(port, sign);
  }

  #hold(port: string, sign: 1 | -1): void {
    this.#ports.set(port, (this.#ports.get(port) ?? 0) + sign);
  }
}

const share = (used: number, capacity: number): number => (capacity > 0 ? used / capacity : 0);
