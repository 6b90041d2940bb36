/**
 * The agent's side: taking the jobs of its own queue.
 *
 * BullMQ's own worker loop spins when Redis denies a command (fifteen thousand errors in 1.5 s were seen), and keeps a lock
 * alive per job. Neither is wanted here, where a job is done as soon as its intent is on disk: this loop fetches by hand.
 *
 * Invariants:
 *  1. A job completes only after `handle` has resolved; a crash in between leaves it to be handed out again (D2).
 *  2. Any error of Redis makes the loop wait, longer each time up to `maxBackoffMs`.
 *  3. As a rule jobs are taken one after another, for the command that ends one brings the next. When many wait, or when one takes
 *     long, more are taken beside it, up to `concurrency`.
 *  4. A job that cannot be read, or whose `handle` rejects, fails and is gone: the assignment set brings it back if it is
 *     still wanted (D5). Of a bundle, that one alone is.
 *  5. Those of a bundle are handed over in their order, without waiting for one another, so that one commit serves them all.
 */
import { backoffMs, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import type { Job } from "@berth/proto";
import type { JsonValue } from "@bufbuild/protobuf";
import type { Job as BullJob } from "bullmq";
import { redisError } from "./connection.ts";
import { BUNDLE_NAME, decodeBundle, decodeJob, type BundledJob, type JobName } from "./job.ts";
import type { JobConnections } from "./shared-connections.ts";
import { ownConnections, type JobSource } from "./source.ts";

export interface ReceivedJob {
  readonly id: string;
  readonly name: JobName;
  readonly data: Job;
}

export interface JobWorkerOptions {
  /** With user and password of the node's ACL user. */
  readonly redisUrl: string;
  readonly node: string;
  /** Resolves when the intent is durable. */
  readonly handle: (job: ReceivedJob) => Promise<void>;
  readonly logger: Logger;
  /** Jobs, or bundles of them, in `handle` at a time, at most: enough for one group commit. Default 16. */
  readonly concurrency?: number;
  readonly maxBackoffMs?: number;
  /** How long a taken job may go unconfirmed before it is handed out again. Default 30 s. */
  readonly lockMs?: number;
  /** How long closing waits for handles under way. Default 5 s. */
  readonly graceMs?: number;
  readonly clock?: Clock;
  /** Shared with other nodes' workers of this process. Without them the worker has its own. */
  readonly connections?: JobConnections;
}

const DEFAULT_CONCURRENCY = 16;
/** So many jobs one after another are many: others are taken beside them. */
const WIDEN_AFTER = 3;
/** A job that takes longer does not hold up others. */
const SLOW_MS = 50;

export type JobWorkerState = "connecting" | "running" | "backing-off" | "closed";

export interface JobWorker extends AsyncDisposable {
  readonly state: JobWorkerState;
  /** How often Redis failed or denied the loop, for metrics and tests. */
  readonly errors: number;
}

/** Starts taking jobs; a Redis that is away is waited for in the background. */
export function startJobWorker(options: JobWorkerOptions): JobWorker {
  return new Loop(options);
}

class Loop implements JobWorker {
  readonly #options: JobWorkerOptions;
  readonly #source: JobSource;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #lanes = new Set<Promise<void>>();
  readonly #loop: Promise<void>;
  #state: JobWorkerState = "connecting";
  #errors = 0;
  #closed: Promise<void> | undefined;

  constructor(options: JobWorkerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const lockMs = options.lockMs ?? 30_000;
    this.#source = options.connections?.open(options.node, lockMs) ?? ownConnections(options, lockMs);
    this.#loop = this.#run();
  }

  get state(): JobWorkerState {
    return this.#state;
  }

  get errors(): number {
    return this.#errors;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    await this.#source.watchStalled();
    let failures = 0;
    while (!signal.aborted) {
      const fetched = await this.#fetch();
      if (fetched.kind === "job") await this.#drain(fetched.job);
      if (fetched.kind === "failed") {
        failures += 1;
        await this.#backOff(failures, fetched.error, signal);
      } else failures = 0;
    }
  }

  async #fetch(): Promise<
    | { readonly kind: "job"; readonly job: BullJob }
    | { readonly kind: "none" }
    | { readonly kind: "failed"; readonly error: Error }
  > {
    try {
      const job = await this.#source.next();
      this.#state = "running";
      return job === undefined ? { kind: "none" } : { kind: "job", job };
    } catch (error) {
      this.#errors += 1;
      return { kind: "failed", error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  async #backOff(failures: number, error: Error, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    this.#state = "backing-off";
    const waitMs = backoffMs(
      { initialMs: 200, maxMs: this.#options.maxBackoffMs ?? 30_000, factor: 2 },
      Math.min(failures, 20),
    );
    if (failures === 1 || failures % 20 === 0) {
      const status = redisError(error, "redis: taking jobs");
      this.#options.logger.warn(
        { reason: status.reason, failures, waitMs: Math.round(waitMs) },
        `${status.message}; waiting`,
      );
    }
    await this.#clock.sleep(waitMs, signal).catch(() => {});
  }

  /** Takes jobs until none waits, one after another or several at a time (invariant 3). */
  async #drain(first: BullJob): Promise<void> {
    const { concurrency = DEFAULT_CONCURRENCY } = this.#options;
    const lanes = this.#lanes;
    const widen = (): void => {
      if (lanes.size < concurrency && !this.#abort.signal.aborted) begin(this.#source.take());
    };
    const begin = (taking: Promise<BullJob | undefined>): void => {
      const lane = this.#lane(taking, widen);
      lanes.add(lane);
      void lane.finally(() => lanes.delete(lane));
    };
    begin(Promise.resolve(first));
    while (lanes.size > 0) await Promise.race(lanes);
  }

  /** One job after another, until none waits. Never rejects: what Redis denies, the next fetch is denied too. */
  async #lane(taking: Promise<BullJob | undefined>, widen: () => void): Promise<void> {
    try {
      let job = await taking;
      for (let taken = 1; job !== undefined; taken += 1) {
        if (taken > WIDEN_AFTER) widen();
        const slow = setTimeout(widen, SLOW_MS);
        const failure = await this.#handle(job).finally(() => clearTimeout(slow));
        // What is taken is finished, and no more is taken once this closes.
        job = this.#abort.signal.aborted
          ? await this.#finishLast(job, failure)
          : await this.#source.finish(job, failure);
      }
    } catch (error) {
      // Redis may have lost the job meanwhile (FLUSHALL), or handed it out again: its effect is durable, so that is well.
      this.#options.logger.debug({ error: String(error) }, "a job could not be ended");
    }
  }

  async #finishLast(job: BullJob, failure: Error | undefined): Promise<undefined> {
    const token = job.token ?? "";
    await (failure === undefined ? job.moveToCompleted(null, token, false) : job.moveToFailed(failure, token, false));
  }

  /** @returns why the job, or one of a bundle, is dropped (invariant 4) */
  async #handle({ name, id = "", data }: BullJob): Promise<Error | undefined> {
    if (name !== BUNDLE_NAME) return await this.#handleOne({ name, id, data: data as JsonValue });
    let members: readonly BundledJob[];
    try {
      members = decodeBundle(data);
    } catch (error) {
      return this.#dropped({ name, id }, error);
    }
    const failures = await Promise.all(members.map((each) => this.#handleOne(each)));
    return failures.find((failure) => failure !== undefined);
  }

  async #handleOne(job: BundledJob): Promise<Error | undefined> {
    try {
      const { name, job: data } = decodeJob(job.name, job.data);
      await this.#options.handle({ id: job.id, name, data });
      return undefined;
    } catch (error) {
      return this.#dropped(job, error);
    }
  }

  #dropped({ name, id }: Pick<BundledJob, "name" | "id">, error: unknown): Error {
    const status = StatusError.from(error);
    const { logger } = this.#options;
    logger.error({ jobId: id, jobName: name, reason: status.reason }, `job dropped: ${status.message}`);
    return new Error(status.message);
  }

  async #close(): Promise<void> {
    this.#state = "closed";
    this.#abort.abort();
    // A handle that is under way finishes; its job may be handed out again when Redis is away just now.
    await settledWithin(Promise.all(this.#lanes), this.#options.graceMs ?? 5_000);
    await settledWithin(this.#source.close(), 2_000);
    await settledWithin(this.#loop, 2_000);
  }
}

async function settledWithin(promise: Promise<unknown>, ms: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise.catch(() => {}), late]);
  clearTimeout(timer);
}
