/**
 * The controller's side: adding jobs to the nodes' queues.
 *
 * One Redis connection serves all queues. A job is a doorbell (D2): what is lost with Redis is rung again from the outbox
 * and by the assignment sets, so nothing here persists, retries for long, or reads results back.
 */
import type { Logger } from "@berth/base";
import type { JsonValue } from "@bufbuild/protobuf";
import { Queue } from "bullmq";
import { connectRedis, redisError } from "./connection.ts";
import { BUNDLE_NAME, bundleId, checkJobId, MOST_BUNDLED, queueName, type BundledJob, type JobName } from "./job.ts";

export interface JobToAdd {
  readonly node: string;
  readonly name: JobName;
  /** Deterministic, such as `<task>-<generation>-<attempt>`: adding a job that still waits changes nothing. */
  readonly id: string;
  /** As {@link encodeJob} makes it. */
  readonly data: JsonValue;
  /** The node's agent knows bundles: those of one call for one node become one job of Redis'. Default false. */
  readonly bundles?: boolean;
}

export interface JobQueuesOptions {
  readonly redisUrl: string;
  readonly logger: Logger;
}

export interface JobQueues extends AsyncDisposable {
  /**
   * Adds all, or throws; after an error some may have been added, and adding all again is right.
   * @throws INVALID_ARGUMENT for a bad id or node name, before anything is added; UNAVAILABLE `REDIS_UNAVAILABLE`.
   */
  addBulk(jobs: readonly JobToAdd[]): Promise<void>;
  /** Jobs that wait or are being taken, a bundle counting as one, of these nodes (default: all that this object has added to). */
  depth(nodes?: readonly string[]): Promise<number>;
  /** @throws UNAVAILABLE when Redis does not answer. */
  ping(): Promise<void>;
  /** Drops a node's queue with all that waits in it, for a node that is gone for good. */
  drop(node: string): Promise<void>;
}

/** Events of a queue are of use to nobody; BullMQ insists on writing them. */
const EVENTS_KEPT = 16;

export function createJobQueues({ redisUrl, logger }: JobQueuesOptions): JobQueues {
  const redis = connectRedis(redisUrl, { blocking: false });
  const queues = new Map<string, Queue>();
  const report = outageReporter(logger);
  redis.on("error", report.failed);
  redis.on("ready", report.recovered);

  const queueOf = (node: string): Queue => {
    let queue = queues.get(node);
    if (queue === undefined) {
      queue = new Queue(queueName(node), {
        connection: redis,
        streams: { events: { maxLen: EVENTS_KEPT } },
        defaultJobOptions: { removeOnComplete: true, removeOnFail: true, attempts: 1 },
      });
      queue.on("error", report.failed);
      queues.set(node, queue);
    }
    return queue;
  };

  return {
    async addBulk(jobs) {
      const byNode = Map.groupBy(jobs, (job) => job.node);
      for (const job of jobs) checkJobId(job.id);
      for (const node of byNode.keys()) queueName(node);
      const added = await Promise.allSettled(
        [...byNode].map(([node, group]) =>
          queueOf(node).addBulk(entriesOf(group).map(({ name, data, id }) => ({ name, data, opts: { jobId: id } }))),
        ),
      );
      const failed = added.find((result) => result.status === "rejected");
      if (failed !== undefined) throw redisError(failed.reason, "redis: adding jobs");
    },

    async depth(nodes = [...queues.keys()]) {
      const keys = nodes.flatMap((node) => {
        const prefix = `bull:${queueName(node)}`;
        return [`${prefix}:wait`, `${prefix}:active`];
      });
      try {
        const lengths = await Promise.all(keys.map((key) => redis.llen(key)));
        return lengths.reduce((sum, length) => sum + length, 0);
      } catch (error) {
        throw redisError(error, "redis: reading queue depth");
      }
    },

    async ping() {
      try {
        await redis.ping();
      } catch (error) {
        throw redisError(error, "redis");
      }
    },

    async drop(node) {
      try {
        const queue = queueOf(node);
        await queue.obliterate({ force: true });
        queues.delete(node);
        await queue.close();
      } catch (error) {
        throw redisError(error, `redis: dropping the queue of node ${node}`);
      }
    },

    async [Symbol.asyncDispose]() {
      await Promise.allSettled([...queues.values()].map((queue) => queue.close()));
      redis.disconnect();
    },
  };
}

/** What goes into a node's queue: its jobs, in their order, bundled where they may be. */
function entriesOf(jobs: readonly JobToAdd[]): readonly BundledJob[] {
  const entries: BundledJob[] = [];
  for (let from = 0; from < jobs.length; from += MOST_BUNDLED) {
    const group = jobs.slice(from, from + MOST_BUNDLED);
    const bundled = group.length > 1 && group.every((job) => job.bundles === true);
    const members = group.map(({ name, id, data }): BundledJob => ({ name, id, data }));
    if (bundled) entries.push({ name: BUNDLE_NAME, id: bundleId(members), data: members as unknown as JsonValue });
    else entries.push(...members);
  }
  return entries;
}

/** Says once that Redis is away, and once that it is back, however often the client complains in between. */
export function outageReporter(logger: Logger): {
  readonly failed: (error: Error) => void;
  readonly recovered: () => void;
} {
  let away = false;
  return {
    failed: (error) => {
      if (away) return;
      away = true;
      logger.warn({ error: error.message }, "redis is not reachable; trying again");
    },
    recovered: () => {
      if (away) logger.info({}, "redis is back");
      away = false;
    },
  };
}
