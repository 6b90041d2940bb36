/** Names, ids and payloads of jobs: what controller and agent must agree on, apart from Redis. */
import { createHash } from "node:crypto";
import { fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { JobSchema, type Job } from "@berth/proto";

export const JOB_NAMES = ["task.run", "task.stop", "image.pull", "image.remove", "node.collect"] as const;
export type JobName = (typeof JOB_NAMES)[number];

/**
 * The queue of a node; a node's Redis user may touch `bull:<queueName(node)>:*` and nothing else (D8). The braces are a hash
 * tag: on a Redis Cluster all keys of one queue are in one slot, as BullMQ's scripts need it, and queues spread over slots.
 */
export function queueName(node: string): string {
  if (node === "" || /[:{}]/.test(node)) {
    throw new StatusError("INVALID_ARGUMENT", `node name ${JSON.stringify(node)} cannot name a queue`, {
      reason: "JOB_QUEUE_INVALID",
    });
  }
  return `{node-${node}}`;
}

/** @throws INVALID_ARGUMENT `JOB_ID_INVALID`: BullMQ refuses ids with ":" and whole numbers. */
export function checkJobId(id: string): void {
  if (id !== "" && !id.includes(":") && !/^[+-]?\d+$/.test(id)) return;
  throw new StatusError("INVALID_ARGUMENT", `job id ${JSON.stringify(id)} is empty, a whole number, or contains ":"`, {
    reason: "JOB_ID_INVALID",
  });
}

/**
 * A bundle: several jobs of one node as one of Redis'. Adding, taking and ending one costs controller, Redis and agent the same,
 * whatever is in it. Only for agents that say that they know bundles ({@link JOB_BUNDLES}).
 */
export const BUNDLE_NAME = "bundle";
/** Among the features that a lease request names. */
export const JOB_BUNDLES = "job-bundles";
/** Bounds what one command to Redis carries, and how many intents wait for one commit. */
export const MOST_BUNDLED = 32;

/** A job in a bundle: its name, its id and what {@link encodeJob} makes of it. */
export interface BundledJob {
  readonly name: string;
  readonly id: string;
  readonly data: JsonValue;
}

/** The same jobs in the same order have the same id: a bundle that waits already is not added once more. */
export function bundleId(jobs: readonly BundledJob[]): string {
  const hash = createHash("sha256");
  for (const { id } of jobs) hash.update(`${id}\n`);
  return `bundle-${hash.digest("hex").slice(0, 32)}`;
}

/** @throws INVALID_ARGUMENT `JOB_INVALID` */
export function decodeBundle(data: unknown): readonly BundledJob[] {
  const isJob = (each: unknown): each is BundledJob =>
    typeof each === "object" && each !== null && "name" in each && "id" in each && "data" in each;
  if (Array.isArray(data) && data.every(isJob)) return data;
  throw invalid("a bundle of jobs cannot be read");
}

export function encodeJob(job: Job): JsonValue {
  return toJson(JobSchema, job);
}

/**
 * Reads a job from what Redis held. Unknown fields are ignored: a controller may be newer than its agents.
 * @throws INVALID_ARGUMENT `JOB_INVALID` when the name is unknown, the data is no Job, or the part the name asks for is missing.
 */
export function decodeJob(name: string, data: unknown): { readonly name: JobName; readonly job: Job } {
  const known = JOB_NAMES.find((each) => each === name);
  if (known === undefined) throw invalid(`job name ${JSON.stringify(name)} is unknown`);
  let job: Job;
  try {
    job = fromJson(JobSchema, data as JsonValue, { ignoreUnknownFields: true });
  } catch (error) {
    throw invalid(`${known} job cannot be read: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  if (known.startsWith("task.") && job.task === undefined) throw invalid(`${known} job names no task`);
  if (known.startsWith("image.") && job.image === undefined) throw invalid(`${known} job names no image`);
  return { name: known, job };
}

function invalid(message: string, cause?: unknown): StatusError {
  return new StatusError("INVALID_ARGUMENT", message, { reason: "JOB_INVALID", cause });
}
