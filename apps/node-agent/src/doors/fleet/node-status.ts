/**
 * What the node says of itself in its lease: capacity, conditions, versions, and how far it is.
 *
 * Most of it is the same each time (`leaseEndpoint.news` are the others): it is made, and encoded, when something of it changes.
 */
import { arch, cpus, release, totalmem } from "node:os";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Clock } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import { JOB_BUNDLES } from "@berth/jobs";
import { LeaseRequestSchema, type Condition, type LeaseRequest } from "@berth/proto";

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

/** A lease request in two parts, which together are the whole. */
export interface Description {
  readonly facts: Uint8Array;
  readonly news: LeaseRequest;
}

/** Of the facts, what may change while the agent runs. */
interface Changing {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly diskLow: boolean;
  readonly diskFree: string;
  readonly journalEpoch: string;
  readonly journalFull: boolean;
  readonly stopperProblem: string | undefined;
  readonly address: string;
}

export class NodeStatus {
  readonly #facts: NodeFacts;
  readonly #changed = new Map<string, { readonly status: string; readonly atMs: number }>();
  /** The facts as they were said last, and of what. */
  #said: { readonly of: string; readonly bytes: Uint8Array } | undefined;

  constructor(facts: NodeFacts) {
    this.#facts = facts;
  }

  describe(news: NodeNews): Description {
    const changing = this.#changing(news);
    const of = JSON.stringify(changing);
    if (this.#said?.of !== of) this.#said = { of, bytes: toBinary(LeaseRequestSchema, this.#factsOf(changing)) };
    return {
      facts: this.#said.bytes,
      news: create(LeaseRequestSchema, {
        journalHeadSeq: BigInt(news.journalHeadSeq),
        storeEpoch: news.storeEpoch,
        appliedRevision: BigInt(news.appliedRevision),
        takenRevision: BigInt(news.takenRevision),
        sentAt: timestampFromMs(this.#facts.clock.nowMs()),
      }),
    };
  }

  #changing({ journalEpoch, journalFull, stopperProblem }: NodeNews): Changing {
    const { capacity } = this.#facts.config;
    const { totalBytes, availableBytes } = this.#facts.disk();
    const freeShare = totalBytes === 0 ? 0 : availableBytes / totalBytes;
    return {
      cpuMillis: capacity.cpuMillis ?? cpus().length * 1_000,
      memoryBytes: capacity.memoryBytes ?? totalmem(),
      diskBytes: capacity.diskBytes ?? totalBytes,
      diskLow: freeShare < DISK_LOW_SHARE,
      diskFree: `${(freeShare * 100).toFixed(1)} % of the data root's disk is free`,
      journalEpoch,
      journalFull,
      stopperProblem,
      address: this.#facts.address(),
    };
  }

  #factsOf(changing: Changing): LeaseRequest {
    const { config, bootId, instance, machineId, version, handlers, snapshotters } = this.#facts;
    return create(LeaseRequestSchema, {
      node: config.node,
      bootId,
      instance,
      agentVersion: version,
      features: [JOB_BUNDLES],
      labels: { "berth.io/arch": arch(), "berth.io/os": "linux", "berth.io/hostname": config.node, ...config.labels },
      capacity: {
        cpuMillis: BigInt(changing.cpuMillis),
        memoryBytes: BigInt(changing.memoryBytes),
        tasks: config.capacity.tasks ?? DEFAULT_TASKS,
        diskBytes: BigInt(changing.diskBytes),
      },
      runtimeHandlers: [...handlers],
      snapshotters: [...snapshotters],
      conditions: this.#conditions(changing),
      journalEpoch: changing.journalEpoch,
      kernelVersion: release(),
      address: changing.address,
      machineId,
    });
  }

  #conditions({ diskLow, diskFree, journalFull, stopperProblem }: Changing): Condition[] {
    return [
      this.#condition("Ready", true, "AgentReady", "the agent takes work"),
      this.#condition("DiskPressure", diskLow, diskLow ? "DiskLow" : "DiskSufficient", diskFree),
      this.#condition(
        "JournalFull",
        journalFull,
        journalFull ? "ControllerAway" : "JournalSufficient",
        journalFull ? "too much waits to be stored by the controller: new work is refused" : "",
      ),
      this.#condition(
        "Stopper",
        stopperProblem === undefined,
        stopperProblem === undefined ? "Armed" : "Unavailable",
        stopperProblem ?? "",
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
