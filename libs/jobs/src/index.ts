export { JOB_BUNDLES, JOB_NAMES, checkJobId, decodeJob, encodeJob, queueName, type JobName } from "./job.ts";
export { createJobQueues, type JobQueues, type JobQueuesOptions, type JobToAdd } from "./queues.ts";
export { shareJobConnections, type JobConnections } from "./shared-connections.ts";
export {
  startJobWorker,
  type JobWorker,
  type JobWorkerOptions,
  type JobWorkerState,
  type ReceivedJob,
} from "./worker.ts";
