/**
 * A controller without Postgres for the agent's tests: real Redis and NATS, assignments in memory, and a journal that is
 * stored as the real one stores it: each entry once, in order, without gaps.
 */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { silentLogger } from "@berth/base";
import {
  assignmentsEndpoint,
  connectBus,
  consumeShard,
  controllerInboxPrefix,
  ensureStream,
  journalFetchEndpoint,
  leaseEndpoint,
  openStream,
  progressSubject,
  type Bus,
  type JournalDelivery,
  type StreamEvent,
  type StreamKind,
} from "@berth/bus";
import { createJobQueues, encodeJob, type JobName, type JobQueues } from "@berth/jobs";
import {
  AssignmentsReplySchema,
  JobSchema,
  JournalFetchRequestSchema,
  LeaseReplySchema,
  ProgressReportSchema,
  TaskAssignmentSchema,
  type ImageAssignment,
  type ImageProgress,
  type JournalEntry,
  type LeaseRequest,
  type TaskAssignment,
  type TaskChanged,
} from "@berth/proto";
import { fromPublished } from "../engine/journal-entries.ts";

const SHARD = 3;

export class FakeController implements AsyncDisposable {
  readonly node: string;
  readonly bus: Bus;
  readonly #queues: JobQueues;
  readonly #abort = new AbortController();
  readonly #consuming: Promise<void>;
  readonly #serving: Disposable[];
  storeEpoch = "store-1";
  revision = 0;
  stopsConfirmed = true;
  /** Answers to lease and assignment requests; off: the agent hears nothing. */
  answering = true;
  /** Why it gives no lease. */
  refusing = "";
  readonly tasks = new Map<string, TaskAssignment>();
  readonly images = new Map<string, ImageAssignment>();
  readonly leases: LeaseRequest[] = [];
  readonly progress: ImageProgress[] = [];
  /** By epoch, in order, without gaps. */
  readonly journal = new Map<string, JournalEntry[]>();

  constructor(options: { readonly node: string; readonly natsUrl: string; readonly redisUrl: string }) {
    this.node = options.node;
    this.bus = connectBus({
      url: options.natsUrl,
      name: "fake controller",
      inboxPrefix: controllerInboxPrefix,
      logger: silentLogger,
    });
    this.#queues = createJobQueues({ redisUrl: options.redisUrl, logger: silentLogger });
    const hear = (payload: Uint8Array): void =>
      void this.progress.push(...fromBinary(ProgressReportSchema, payload).images);
    const progress = this.bus.subscribe(progressSubject("*"), hear);
    this.#serving = [this.#serveLeases(), this.#serveAssignments(), progress];
    this.#consuming = this.bus
      .connected()
      .then(() => ensureStream(this.bus))
      .then(() =>
        consumeShard(this.bus, SHARD, (deliveries) => this.#store(deliveries), {
          signal: this.#abort.signal,
          logger: silentLogger,
        }),
      )
      .catch(() => {});
  }

  /** Assigns a task and rings its job. */
  async run(init: MessageInitShape<typeof TaskAssignmentSchema>, ring = true): Promise<TaskAssignment> {
    const task = create(TaskAssignmentSchema, {
      namespace: "shop",
      generation: 1n,
      attempt: 1,
      desired: "Run",
      ...init,
    });
    this.tasks.set(task.taskUid, task);
    this.revision += 1;
    if (ring) await this.ring("task.run", task);
    return task;
  }

  /** Takes a task out of the set and rings its stop. */
  async stop(task: TaskAssignment, ring = true): Promise<void> {
    this.tasks.delete(task.taskUid);
    this.revision += 1;
    if (ring) await this.ring("task.stop", { ...task, desired: "Stop" });
  }

  async ring(name: JobName, task: TaskAssignment, revision = this.revision): Promise<void> {
    const data = create(JobSchema, { storeEpoch: this.storeEpoch, revision: BigInt(revision), task });
    const id = `${name.replace(".", "-")}-${task.taskUid}-${task.generation}-${task.attempt}-${revision}`;
    await this.#queues.addBulk([{ node: this.node, name, id, data: encodeJob(data) }]);
  }

  /** All stored entries about a task, in order. */
  stepsOf(taskUid: string): TaskChanged[] {
    return [...this.journal.values()].flat().flatMap(({ body }) => {
      return body.case === "task" && body.value.taskUid === taskUid ? [body.value] : [];
    });
  }

  stepNames(taskUid: string): string[] {
    return this.stepsOf(taskUid).map(({ step, attempt }) => (attempt === 1 ? step : `${step}/${attempt}`));
  }

  /** Runs a stream to its end. */
  async stream(
    kind: StreamKind,
    input?: string,
  ): Promise<{ readonly output: string; readonly exitCode: number | undefined }> {
    await using stream = await openStream(this.bus, this.node, kind);
    if (input !== undefined) await stream.write(Buffer.from(input));
    if (input !== undefined) stream.closeInput();
    let output = "";
    let exitCode: number | undefined;
    for await (const event of stream.events) {
      output += textOf(event);
      if (event.kind === "exit") exitCode = event.exitCode;
    }
    return { output, exitCode };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    for (const serving of this.#serving) serving[Symbol.dispose]();
    await this.#consuming;
    await this.#queues[Symbol.asyncDispose]();
    await this.bus[Symbol.asyncDispose]();
  }

  #serveLeases(): Disposable {
    return this.bus.serve(leaseEndpoint, {}, async (request) => {
      if (!this.answering) return await new Promise(() => {});
      if (this.refusing !== "") return create(LeaseReplySchema, { refused: this.refusing });
      this.leases.push(request);
      return create(LeaseReplySchema, {
        ttlMs: 2_000n,
        renewAfterMs: 200n,
        fenceSlackMs: 2_000n,
        storeEpoch: this.storeEpoch,
        revision: BigInt(this.revision),
        journalEpoch: request.journalEpoch,
        journalStoredSeq: this.journal.get(request.journalEpoch)?.at(-1)?.seq ?? 0n,
        shard: SHARD,
      });
    });
  }

  #serveAssignments(): Disposable {
    return this.bus.serve(assignmentsEndpoint, {}, async ({ offset }) => {
      if (!this.answering) return await new Promise(() => {});
      const tasks = [...this.tasks.values()];
      const page = tasks.slice(offset, offset + 2);
      return create(AssignmentsReplySchema, {
        storeEpoch: this.storeEpoch,
        revision: BigInt(this.revision),
        tasks: page,
        images: offset === 0 ? [...this.images.values()] : [],
        nextOffset: offset + 2 < tasks.length ? offset + 2 : 0,
        stopsConfirmed: this.stopsConfirmed,
      });
    });
  }

  /** As ingest does it: what is known is skipped, a gap is asked for. */
  async #store(deliveries: readonly JournalDelivery[]): Promise<void> {
    for (const { batch } of deliveries) {
      const stored = this.journal.get(batch.epoch) ?? [];
      this.journal.set(batch.epoch, stored);
      const next = (): bigint => BigInt(stored.length + 1);
      const first = batch.entries[0]?.seq ?? 0n;
      if (first > next()) await this.#fillGap(batch.epoch, stored, first);
      for (const entry of batch.entries) if (entry.seq === next()) stored.push(fromPublished(entry));
    }
  }

  async #fillGap(epoch: string, stored: JournalEntry[], before: bigint): Promise<void> {
    const request = create(JournalFetchRequestSchema, { epoch, fromSeq: BigInt(stored.length + 1), limit: 1_000 });
    const missing = await this.bus.request(journalFetchEndpoint, this.node, request);
    for (const entry of missing.entries) {
      if (entry.seq === BigInt(stored.length + 1) && entry.seq < before) stored.push(fromPublished(entry));
    }
  }
}

function textOf(event: StreamEvent): string {
  if (event.kind === "stdout" || event.kind === "stderr") return Buffer.from(event.data).toString();
  return event.kind === "log" ? Buffer.from(event.entry.data).toString() : "";
}
