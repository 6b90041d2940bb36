/**
 * Where a worker's jobs come from: the node's own connections to Redis, or some that many nodes of one process share
 * (`shared-connections.ts`). Either way jobs are taken with BullMQ's own scripts; only the waiting differs.
 */
import type { Logger } from "@berth/base";
import { Worker, type Job as BullJob, type WorkerOptions } from "bullmq";
import { connectRedis } from "./connection.ts";
import { queueName } from "./job.ts";
import { outageReporter } from "./queues.ts";

export interface JobSource {
  /** The next job, or `undefined` when none came within a while. @throws what Redis or the connection throws. */
  next(): Promise<BullJob | undefined>;
  /** Hands out again, from time to time, what a worker that died had taken. */
  watchStalled(): Promise<void>;
  /** Ends a `next` that waits. */
  close(): Promise<void>;
}

/** A handed-out job comes back to the queue as often as it must; BullMQ would drop it at the second time. */
const NO_LIMIT = 1_000_000;
/** How long `next` waits for a job. */
export const WAIT_SECONDS = 5;

export function workerOptions(lockMs: number): Omit<WorkerOptions, "connection"> {
  return {
    autorun: false,
    lockDuration: lockMs,
    stalledInterval: lockMs,
    maxStalledCount: NO_LIMIT,
    drainDelay: WAIT_SECONDS,
  };
}

/** BullMQ reports some errors by throwing and some by an event; here both throw. */
export async function takeNext(worker: Worker, block: boolean, errors: WorkerErrors): Promise<BullJob | undefined> {
  errors.last = undefined;
  errors.tokens += 1;
  const job = (await worker.getNextJob(`${worker.id}-${errors.tokens}`, { block })) as BullJob | undefined;
  if (job === undefined && errors.last !== undefined) throw errors.last as Error;
  return job;
}

/** What a worker has reported by an event, and how many tokens it has used. */
export interface WorkerErrors {
  last: Error | undefined;
  tokens: number;
}

export function collectErrors(worker: Worker): WorkerErrors {
  const errors: WorkerErrors = { last: undefined, tokens: 0 };
  worker.on("error", (error) => (errors.last = error));
  return errors;
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
  const worker = new Worker(queueName(options.node), null, { ...workerOptions(lockMs), connection: redis });
  const errors = collectErrors(worker);
  return {
    next: () => takeNext(worker, true, errors),
    watchStalled: () => worker.startStalledCheckTimer(),
    async close() {
      await worker.close(true);
      redis.disconnect();
    },
  };
}
