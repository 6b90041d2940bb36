/**
 * An agent without containers: it keeps a journal, obeys jobs and assignment sets as D2 and D5 ask, and counts how often it
 * began each execution. Everything is in memory; what it knows outlives the controller, as a real node's state does.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampNow } from "@bufbuild/protobuf/wkt";
import { uuidv7 } from "@berth/base";
import {
  AssignmentsRequestSchema,
  ImageChangedSchema,
  JournalBatchSchema,
  JournalEntrySchema,
  LeaseRequestSchema,
  TaskChangedSchema,
  type AssignmentsReply,
  type AssignmentsRequest,
  HoldingsRequestSchema,
  type HoldingsReply,
  type HoldingsRequest,
  type ImageAssignment,
  type Job,
  type JournalBatch,
  type JournalEntry,
  type JournalFetchRequest,
  type LeaseReply,
  type LeaseRequest,
  type TaskAssignment,
} from "@berth/proto";

export interface AgentWires {
  lease(node: string, request: LeaseRequest): Promise<LeaseReply>;
  assignments(node: string, request: AssignmentsRequest): Promise<AssignmentsReply>;
  holdings(node: string, request: HoldingsRequest): Promise<HoldingsReply>;
  publish(shard: number, batch: JournalBatch): void;
}

interface Execution {
  readonly task: TaskAssignment;
  state: "running" | "ended" | "removed";
}

export interface FakeAgentOptions {
  readonly labels?: Record<string, string>;
  readonly cpuMillis?: number;
  readonly bootId?: string;
  readonly machineId?: string;
}

export class FakeAgent {
  readonly name: string;
  readonly #wires: AgentWires;
  readonly #options: FakeAgentOptions;
  /** How often each execution was begun: `<uid> <generation> <attempt>`. */
  readonly starts = new Map<string, number>();
  /** The newest execution of each task. */
  readonly executions = new Map<string, Execution>();
  readonly pulls: string[] = [];
  /** What it keeps for campaigns, and what it was made to let go of. */
  readonly kept = new Set<string>();
  readonly released: string[] = [];
  entries: JournalEntry[] = [];
  epoch: string;
  instance = uuidv7();
  /** A silent agent hears nothing and says nothing; its containers go on. */
  silent = false;
  /** What its containers do by themselves, once started. */
  onStart: (agent: FakeAgent, uid: string) => void = () => {};
  failPulls = 0;
  /** What it is told to stop goes on until it is let go. */
  holdStops = false;
  readonly #heldStops: TaskAssignment[] = [];
  storeEpoch = "";
  appliedRevision = 0;
  storedSeq = 0;
  refused = "";
  /** Does its stopper work? */
  stopper = true;
  /** So far is its clock ahead of this machine's; undefined: it does not tell. */
  clockAheadMs: number | undefined;
  /** What else it says of its node. */
  conditions: readonly { readonly type: string; readonly status: string; readonly message: string }[] = [];
  #deadlineMs = 0;
  #shard = 0;

  constructor(name: string, wires: AgentWires, options: FakeAgentOptions = {}) {
    this.name = name;
    this.#wires = wires;
    this.#options = options;
    this.epoch = uuidv7();
  }

  get running(): TaskAssignment[] {
    return [...this.executions.values()].filter((each) => each.state === "running").map((each) => each.task);
  }

  /** Renews the lease and takes over the assignment set when it has changed. */
  async beat(): Promise<void> {
    this.#fence();
    if (this.silent) return;
    const sentMs = performance.now();
    const request = create(LeaseRequestSchema, {
      node: this.name,
      bootId: this.#options.bootId ?? `boot-${this.name}`,
      instance: this.instance,
      machineId: this.#options.machineId ?? "",
      agentVersion: "test",
      labels: this.#options.labels ?? {},
      capacity: {
        cpuMillis: BigInt(this.#options.cpuMillis ?? 8_000),
        memoryBytes: 2n ** 33n,
        tasks: 1_000,
        diskBytes: 2n ** 40n,
      },
      runtimeHandlers: ["runc"],
      snapshotters: ["overlayfs"],
      conditions: [{ type: "Stopper", status: this.stopper ? "True" : "False" }, ...this.conditions],
      journalEpoch: this.epoch,
      journalHeadSeq: BigInt(this.entries.length),
      storeEpoch: this.storeEpoch,
      appliedRevision: BigInt(this.appliedRevision),
      ...(this.clockAheadMs !== undefined && { sentAt: timestampFromMs(Date.now() + this.clockAheadMs) }),
    });
    const reply = await this.#wires.lease(this.name, request);
    this.refused = reply.refused;
    if (reply.refused !== "" || this.silent) return;
    this.#deadlineMs = sentMs + Number(reply.ttlMs);
    this.#shard = reply.shard;
    this.storedSeq = Number(reply.journalStoredSeq);
    if (reply.storeEpoch !== this.storeEpoch || Number(reply.revision) !== this.appliedRevision) await this.sync();
    if (reply.holdingsWanted && reply.storeEpoch === this.storeEpoch) await this.tellHoldings();
  }

  /** What it has, for a store that was put back. */
  async tellHoldings(): Promise<void> {
    if (this.silent) return;
    const holdings = [...this.executions.values()]
      .filter(({ state }) => state !== "removed")
      .map(({ task: { taskUid, generation, attempt, fence, namespace, name }, state }) => {
        return { taskUid, generation, attempt, fence, namespace, name, state: state === "ended" ? "exited" : state };
      });
    await this.#wires.holdings(
      this.name,
      create(HoldingsRequestSchema, {
        node: this.name,
        storeEpoch: this.storeEpoch,
        revision: BigInt(this.appliedRevision),
        journalEpoch: this.epoch,
        journalHeadSeq: BigInt(this.entries.length),
        holdings,
      }),
    );
  }

  /** Takes over the full set (D5). */
  async sync(): Promise<void> {
    // What a job brings meanwhile may be newer than the set: that it is absent there says nothing.
    const known = new Set([...this.kept, ...this.executions.keys()]);
    const tasks: TaskAssignment[] = [];
    const images: ImageAssignment[] = [];
    let reply: AssignmentsReply;
    let offset = 0;
    do {
      reply = await this.#wires.assignments(this.name, create(AssignmentsRequestSchema, { node: this.name, offset }));
      tasks.push(...reply.tasks);
      images.push(...reply.images);
      offset = reply.nextOffset;
    } while (offset > 0);
    const regressed = reply.storeEpoch === this.storeEpoch && Number(reply.revision) < this.appliedRevision;
    if (regressed || this.silent) return;
    this.storeEpoch = reply.storeEpoch;
    this.appliedRevision = Number(reply.revision);
    for (const task of tasks) this.#obey(task);
    for (const image of images) this.#pull(image);
    const named = new Set(tasks.map((task) => task.taskUid));
    if (!reply.stopsConfirmed) return;
    for (const kept of this.kept) {
      if (!known.has(kept) || images.some((image) => keptAs(image) === kept)) continue;
      this.kept.delete(kept);
      this.released.push(kept);
    }
    for (const { task, state } of this.executions.values()) {
      if (known.has(task.taskUid) && !named.has(task.taskUid) && state !== "removed") this.#remove(task);
    }
  }

  take(job: Job): void {
    if (this.silent) return;
    if (job.task !== undefined) this.#obey(job.task);
    if (job.image !== undefined) this.#pull(job.image);
  }

  /** As the stopper does it: what is fenced ends when the lease has run out, whether or not anybody hears of it. */
  #fence(): void {
    if (!this.stopper || performance.now() < this.#deadlineMs) return;
    for (const execution of this.executions.values()) {
      if (execution.state !== "running" || !execution.task.fence) continue;
      execution.state = "ended";
      this.#journalTask(execution.task, "stopped", { reason: "Fenced" });
    }
  }

  /** A container ends by itself. */
  exit(uid: string, exitCode: number): void {
    const execution = this.executions.get(uid);
    if (execution?.state !== "running") return;
    execution.state = "ended";
    this.#journalTask(execution.task, "exited", { exitCode });
  }

  /** Its probes say something new of a running container. */
  health(uid: string, health: "healthy" | "unhealthy", message = ""): void {
    const execution = this.executions.get(uid);
    if (execution?.state === "running") this.#journalTask(execution.task, "health", { health, message });
  }

  /** What a controller asks for when entries are missing. */
  fetch(request: JournalFetchRequest): JournalBatch {
    if (this.silent) throw new Error(`${this.name} does not answer`);
    const mine = request.epoch === this.epoch;
    const entries = mine
      ? this.entries.slice(Number(request.fromSeq) - 1, Number(request.fromSeq) - 1 + request.limit)
      : [];
    return create(JournalBatchSchema, { node: this.name, epoch: request.epoch, entries, firstAvailableSeq: 1n });
  }

  /** Its data root is lost: a new epoch, and nothing known. */
  reset(): void {
    this.epoch = uuidv7();
    this.instance = uuidv7();
    this.entries = [];
    this.executions.clear();
    this.storeEpoch = "";
    this.appliedRevision = 0;
  }

  /** Publishes again from a sequence number on, as after a restart. */
  republish(fromSeq = 1): void {
    this.#publish(this.entries.slice(fromSeq - 1));
  }

  journal(body: JournalEntry["body"], namespace = ""): void {
    const entry = create(JournalEntrySchema, {
      seq: BigInt(this.entries.length + 1),
      time: timestampNow(),
      namespace,
      body,
    });
    this.entries.push(entry);
    this.#publish([entry]);
  }

  releaseStops(): void {
    this.holdStops = false;
    for (const task of this.#heldStops.splice(0)) this.#obey(task);
  }

  #obey(task: TaskAssignment): void {
    if (task.desired === "Ended") return;
    const known = this.executions.get(task.taskUid);
    if (known !== undefined && isOlder(task, known.task)) return;
    if (task.desired === "Stop") {
      if (this.holdStops) this.#heldStops.push(task);
      else if (known?.state !== "removed") this.#remove(task);
      return;
    }
    if (known !== undefined && !isOlder(known.task, task)) return;
    if (known?.state === "running") this.#remove(known.task);
    this.#start(task);
  }

  #start(task: TaskAssignment): void {
    const key = `${task.taskUid} ${task.generation} ${task.attempt}`;
    this.starts.set(key, (this.starts.get(key) ?? 0) + 1);
    this.executions.set(task.taskUid, { task, state: "running" });
    for (const step of ["accepted", "creating"]) this.#journalTask(task, step);
    this.#journalTask(task, "started", { health: task.container?.health === undefined ? "" : "starting" });
    this.onStart(this, task.taskUid);
  }

  #remove(task: TaskAssignment): void {
    for (const step of ["stopping", "stopped", "removed"]) this.#journalTask(task, step);
    this.executions.set(task.taskUid, { task, state: "removed" });
  }

  #pull(image: ImageAssignment): void {
    const key = `${image.campaignUid} ${image.image} ${image.generation} ${image.attempt}`;
    if (this.pulls.includes(key)) return;
    this.pulls.push(key);
    this.kept.add(keptAs(image));
    const failed = this.failPulls > 0;
    if (failed) this.failPulls -= 1;
    const { namespace, campaignUid, generation, attempt } = image;
    const value = create(ImageChangedSchema, {
      image: image.image,
      campaignUid,
      generation,
      attempt,
      step: failed ? "failed" : "present",
      ...(failed ? { reason: "ImagePullFailed", message: "registry is down" } : { digest: "sha256:aa" }),
    });
    this.journal({ case: "image", value }, namespace);
  }

  #journalTask(
    task: TaskAssignment,
    step: string,
    facts: {
      readonly exitCode?: number;
      readonly health?: string;
      readonly message?: string;
      readonly reason?: string;
    } = {},
  ): void {
    const { taskUid, generation, attempt, name, namespace } = task;
    const digest = step === "creating" ? { imageDigest: "sha256:aa" } : {};
    const value = create(TaskChangedSchema, { taskUid, generation, attempt, name, step, ...facts, ...digest });
    this.journal({ case: "task", value }, namespace);
  }

  #publish(entries: readonly JournalEntry[]): void {
    if (this.silent || entries.length === 0) return;
    const batch = create(JournalBatchSchema, { node: this.name, epoch: this.epoch, entries: [...entries] });
    this.#wires.publish(this.#shard, batch);
  }
}

const keptAs = (image: ImageAssignment): string => `${image.campaignUid} ${image.image}`;

function isOlder(a: TaskAssignment, b: TaskAssignment): boolean {
  return a.generation < b.generation || (a.generation === b.generation && a.attempt < b.attempt);
}
