/**
 * Where a worker's jobs come from: the node's own connections to Redis, or some that many nodes of one process share
 * (`shared-connections.ts`). Either way jobs are taken with BullMQ's own scripts; only the waiting differs.
 */
import type { Logger } from "@berth/base";
import { createRedisBackend, Worker, type Job as BullJob, type JobJson, type WorkerOptions } from "bullmq";
import type { Redis } from "ioredis";
import { connectRedis } from "./connection.ts";
import { queueName } from "./job.ts";
import { outageReporter } from "./queues.ts";

export interface JobSource {
  /** The next job, or `undefined` when none came within a while. @throws what Redis or the connection throws. */
  next(): Promise<BullJob | undefined>;
  /** The next job if one waits. @throws as `next` */
  take(): Promise<BullJob | undefined>;
  /** Ends a job, and gives the next one if one waits: one command for both. @throws as `next`; the job may have ended. */
  finish(job: BullJob, failure: Error | undefined): Promise<BullJob | undefined>;
  /** Hands out again, from time to time, what a worker that died had taken. */
  watchStalled(): Promise<void>;
  /** Ends a `next` that waits. */
  close(): Promise<void>;
}

/** A handed-out job comes back to the queue as often as it must; BullMQ would drop it at the second time. */
const NO_LIMIT = 1_000_000;
/** How long `next` waits for a job. */
export const WAIT_SECONDS = 5;

function workerOptions(lockMs: number): Omit<WorkerOptions, "connection"> {
  return {
    autorun: false,
    lockDuration: lockMs,
    stalledInterval: lockMs,
    maxStalledCount: NO_LIMIT,
    drainDelay: WAIT_SECONDS,
  };
}

/** BullMQ's worker without its loop: jobs are taken one by one, and those of one queue by one of these. */
export class Taker {
  readonly #worker: TakingWorker;
  #error: Error | undefined;
  #tokens = 0;
  #isEmpty = false;

  constructor(node: string, lockMs: number, connection: Redis, sharesConnection = false) {
    const options: WorkerOptions = { ...workerOptions(lockMs), connection };
    const name = queueName(node);
    this.#worker = sharesConnection
      ? new TakingWorker(name, null, options, (queue, given) => createRedisBackend(queue, given))
      : new TakingWorker(name, null, options);
    this.#worker.on("error", (error) => (this.#error = error));
  }

  /** Nothing waited when this last looked. */
  get isEmpty(): boolean {
    return this.#isEmpty;
  }

  /** BullMQ reports some errors by throwing and some by an event; here both throw. */
  async take(block: boolean): Promise<BullJob | undefined> {
    this.#error = undefined;
    this.#tokens += 1;
    const job = await this.#worker.getNextJob(`${this.#worker.id}-${this.#tokens}`, { block });
    if (job === undefined && this.#error !== undefined) throw this.#error;
    this.#isEmpty = job === undefined;
    return job;
  }

  async finish(job: BullJob, failure: Error | undefined): Promise<BullJob | undefined> {
    const token = job.token ?? "";
    if (failure !== undefined) {
      await job.moveToFailed(failure, token, false);
      return await this.take(false);
    }
    const [data, id] = (await job.moveToCompleted(null, token, true)) ?? [];
    const next = await this.#worker.adopt(data as JobJson | undefined, id as string | undefined, token);
    this.#isEmpty = next === undefined;
    return next;
  }

  watchStalled(): Promise<void> {
    return this.#worker.startStalledCheckTimer();
  }

  async close(): Promise<void> {
    await this.#worker.close(true);
  }
}

class TakingWorker extends Worker {
  /** A job that came with the answer to the end of another one. */
  adopt(data: JobJson | undefined, id: string | undefined, token: string): Promise<BullJob | undefined> {
    return this.nextJobFromJobData(data, id, token);
  }
}

/** Two connections: BullMQ blocks on one of them. */
export function ownConnections(
  options: { readonly redisUrl: string; readonly node: string; readonly logger: Logger },
  lockMs: number,
): JobSource {
  const redis = connectRedis(options.redisUrl, { blocking: true });
  const outage = outageReporter(options.logger);
  redis.on("error", outage.failed);
  redis.on("ready", outage.recovered);
  const taker = new Taker(options.node, lockMs, redis);
  return {
    next: () => taker.take(true),
    take: () => taker.take(false),
    finish: (job, failure) => taker.finish(job, failure),
    watchStalled: () => taker.watchStalled(),
    async close() {
      await taker.close();
      redis.disconnect();
    },
  };
}
