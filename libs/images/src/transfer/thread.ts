/** The entry of a transfer's thread: one job at a time. See thread-jobs.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { StatusError } from "@berth/base";
import { toPlainError } from "../pull/layer-job.ts";
import { copyJob, indexJob, spoolJob, type JobContext } from "./thread-jobs.ts";
import { pushJob } from "./push-job.ts";
import type { FromThread, JobResults, ToThread, TransferJob } from "./thread-protocol.ts";
import { writeJob } from "./write-archive.ts";

const PROGRESS_INTERVAL_MS = 100;
const cancelled = workerData as Int32Array;

function send(message: FromThread): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage(message);
}

/** Of the running job, for what waits for a network. */
let running = new AbortController();

function newContext(): JobContext {
  let bytes = 0;
  let lastMs = 0;
  running = new AbortController();
  return {
    signal: running.signal,
    tell: send,
    check() {
      if (Atomics.load(cancelled, 0) !== 0) throw new StatusError("CANCELLED", "transfer cancelled");
    },
    moved(length) {
      bytes += length;
      const nowMs = performance.now();
      if (nowMs - lastMs < PROGRESS_INTERVAL_MS) return;
      lastMs = nowMs;
      send({ kind: "progress", bytes });
    },
  };
}

async function run(job: TransferJob, context: JobContext): Promise<JobResults[keyof JobResults]> {
  switch (job.kind) {
    case "spool":
      return await spoolJob(job, context);
    case "index":
      return indexJob(job, context);
    case "copy":
      return copyJob(job, context);
    case "push":
      return await pushJob(job, context);
    case "write":
      return await writeJob(job, context);
  }
}

parentPort!.on("message", (job: ToThread) => {
  if (job.kind === "cancel") {
    running.abort(new StatusError("CANCELLED", "transfer cancelled"));
    return;
  }
  run(job, newContext()).then(
    (result) => send({ kind: "done", result }),
    (error: unknown) => send({ kind: "failed", error: toPlainError(error) }),
  );
});
