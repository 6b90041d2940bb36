/** What the node says of itself in its lease: capacity, conditions, versions. */
import { arch, cpus, release, totalmem } from "node:os";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Clock } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import { JOB_BUNDLES } from "@berth/jobs";
import type { Condition, LeaseRequest } from "@berth/proto";

export interface NodeFacts {
  readonly config: Pick<AgentConfig, "node" | "labels" | "capacity">;
  /** Of the data root. */
  readonly disk: () => { readonly totalBytes: number; readonly availableBytes: number };
  readonly bootId: string;
  /** Names the machine without telling its /etc/machine-id; empty: not known. */
  readonly machineId: string;
  /** New for every start of the agent. */
  readonly instance: string;
  readonly version: string;
  readonly handlers: readonly string[];
  readonly snapshotters: readonly string[];
  readonly address: () => string;
  readonly clock: Clock;
}

/** What changes while the agent runs. */
export interface NodeNews {
  readonly journalEpoch: string;
  readonly journalHeadSeq: number;
  readonly journalFull: boolean;
  readonly storeEpoch: string;
  readonly appliedRevision: number;
  readonly takenRevision: number;
  /** Why the stopper cannot be relied upon. */
  readonly stopperProblem: string | undefined;
}

/** Below this share of the data root's disk, the node says DiskPressure. */
const DISK_LOW_SHARE = 0.1;
const DEFAULT_TASKS = 250;

export class NodeStatus {
  readonly #facts: NodeFacts;
  readonly #changed = new Map<string, { readonly status: string; readonly atMs: number }>();

  constructor(facts: NodeFacts) {
    this.#facts = facts;
  }

  describe(news: NodeNews): Omit<LeaseRequest, "$typeName" | "$unknown"> {
    const { config, bootId, instance, version, handlers, snapshotters } = this.#facts;
    const disk = this.#facts.disk();
    const { capacity } = config;
    return {
      node: config.node,
      bootId,
      instance,
      agentVersion: version,
      features: [JOB_BUNDLES],
      labels: { "berth.io/arch": arch(), "berth.io/os": "linux", "berth.io/hostname": config.node, ...config.labels },
      capacity: {
        $typeName: "berth.v1.NodeResources",
        cpuMillis: BigInt(capacity.cpuMillis ?? cpus().length * 1_000),
        memoryBytes: BigInt(capacity.memoryBytes ?? totalmem()),
        tasks: capacity.tasks ?? DEFAULT_TASKS,
        diskBytes: BigInt(capacity.diskBytes ?? disk.totalBytes),
      },
      runtimeHandlers: [...handlers],
      snapshotters: [...snapshotters],
      conditions: this.#conditions(disk, news),
      journalEpoch: news.journalEpoch,
      journalHeadSeq: BigInt(news.journalHeadSeq),
      storeEpoch: news.storeEpoch,
      appliedRevision: BigInt(news.appliedRevision),
      takenRevision: BigInt(news.takenRevision),
      kernelVersion: release(),
      address: this.#facts.address(),
      machineId: this.#facts.machineId,
      sentAt: timestampFromMs(this.#facts.clock.nowMs()),
    };
  }

  #conditions(disk: { totalBytes: number; availableBytes: number }, news: NodeNews): Condition[] {
    const free = disk.totalBytes === 0 ? 0 : disk.availableBytes / disk.totalBytes;
    const low = free < DISK_LOW_SHARE;
    const percent = `${(free * 100).toFixed(1)} % of the data root's disk is free`;
    const full = news.journalFull;
    return [
      this.#condition("Ready", true, "AgentReady", "the agent takes work"),
      this.#condition("DiskPressure", low, low ? "DiskLow" : "DiskSufficient", percent),
      this.#condition(
        "JournalFull",
        full,
        full ? "ControllerAway" : "JournalSufficient",
        full ? "too much waits to be stored by the controller: new work is refused" : "",
      ),
      this.#condition(
        "Stopper",
        news.stopperProblem === undefined,
        news.stopperProblem === undefined ? "Armed" : "Unavailable",
        news.stopperProblem ?? "",
      ),
    ];
  }

  #condition(type: string, holds: boolean, reason: string, message: string): Condition {
    const status = holds ? "True" : "False";
    let changed = this.#changed.get(type);
    if (changed?.status !== status) {
      changed = { status, atMs: this.#facts.clock.nowMs() };
      this.#changed.set(type, changed);
    }
    return { $typeName: "berth.v1.Condition", type, status, reason, message, changedAt: timestampFromMs(changed.atMs) };
  }
}
