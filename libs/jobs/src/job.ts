/** Names, ids and payloads of jobs: what controller and agent must agree on, apart from Redis. */
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
