/**
 * The agent's side: taking the jobs of its own queue.
 *
 * BullMQ's own worker loop spins when Redis denies a command (fifteen thousand errors in 1.5 s were seen), and keeps a lock
 * alive per job. Neither is wanted here, where a job is done as soon as its intent is on disk: this loop fetches by hand.
 *
 * Invariants:
 *  1. A job completes only after `handle` has resolved; a crash in between leaves it to be handed out again (D2).
 *  2. Any error of Redis makes the loop wait, longer each time up to `maxBackoffMs`.
 *  3. A job that cannot be read, or whose `handle` rejects, fails and is gone: the assignment set brings it back if it is
 *     still wanted (D5).
 */
import { backoffMs, Semaphore, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import type { Job } from "@berth/proto";
import type { Job as BullJob } from "bullmq";
import { redisError } from "./connection.ts";
import { decodeJob, type JobName } from "./job.ts";
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
  /** Jobs in `handle` at a time: enough for one group commit. Default 16. */
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
  readonly #slots: Semaphore;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #loop: Promise<void>;
  #state: JobWorkerState = "connecting";
  #errors = 0;
  #closed: Promise<void> | undefined;

  constructor(options: JobWorkerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#slots = new Semaphore(options.concurrency ?? 16);
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
      const slot = await this.#slots.acquire(signal).catch(() => undefined);
      if (slot === undefined) return;
      const fetched = await this.#fetch();
      if (fetched.kind === "job") this.#track(this.#process(fetched.job).finally(() => slot[Symbol.dispose]()));
      else slot[Symbol.dispose]();
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

  #track(running: Promise<void>): void {
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  async #process(job: BullJob): Promise<void> {
    const id = job.id ?? "";
    const token = job.token ?? "";
    const { logger } = this.#options;
    try {
      const { name, job: data } = decodeJob(job.name, job.data);
      await this.#options.handle({ id, name, data });
    } catch (error) {
      const status = StatusError.from(error);
      logger.error({ jobId: id, jobName: job.name, reason: status.reason }, `job dropped: ${status.message}`);
      await job.moveToFailed(new Error(status.message), token, false).catch((failure: unknown) => {
        logger.debug({ jobId: id, error: String(failure) }, "failed job could not be removed");
      });
      return;
    }
    // Redis may have lost the job meanwhile (FLUSHALL), or handed it out again: its effect is durable, so that is well.
    await job.moveToCompleted(null, token, false).catch((failure: unknown) => {
      logger.debug({ jobId: id, error: String(failure) }, "job could not be completed");
    });
  }

  async #close(): Promise<void> {
    this.#state = "closed";
    this.#abort.abort();
    // A handle that is under way finishes; its job may be handed out again when Redis is away just now.
    await settledWithin(Promise.all(this.#running), this.#options.graceMs ?? 5_000);
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
