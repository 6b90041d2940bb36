/** The entry of a layer worker thread: one job at a time, with progress and cancellation. See layer-run.ts. */
import { parentPort } from "node:worker_threads";
import { StatusError } from "@berth/base";
import { toPlainError, type FromWorker, type JobResult, type MendResult, type ToWorker } from "./layer-job.ts";
import { runLayer } from "./layer-run.ts";
import { mendLayer } from "./mend.ts";

const PROGRESS_INTERVAL_MS = 100;

let running: AbortController | undefined;

function send(message: FromWorker): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage(message);
}

async function run(task: Exclude<ToWorker, { kind: "cancel" }>): Promise<void> {
  const abort = new AbortController();
  running = abort;
  let lastMs = 0;
  const onProgress = (offsetBytes: number): void => {
    const nowMs = performance.now();
    if (nowMs - lastMs < PROGRESS_INTERVAL_MS) return;
    lastMs = nowMs;
    send({ kind: "progress", offsetBytes });
  };
  let answer: FromWorker;
  try {
    const result: JobResult | MendResult =
      task.kind === "mend" ? mendLayer(task.job) : await runLayer(task.job, { signal: abort.signal, onProgress });
    answer = { kind: "done", result };
  } catch (error) {
    answer = { kind: "failed", error: toPlainError(error) };
  }
  running = undefined;
  send(answer);
}

parentPort!.on("message", (message: ToWorker) => {
  if (message.kind !== "cancel") void run(message);
  else running?.abort(new StatusError("CANCELLED", "pull cancelled"));
});
