/** The entry of a layer worker thread: jobs side by side, each with progress and cancellation. See layer-run.ts. */
import { parentPort } from "node:worker_threads";
import { StatusError } from "@berth/base";
import { toPlainError, type FromWorker, type Numbered, type Task, type ToWorker } from "./layer-job.ts";
import { runLayer } from "./layer-run.ts";
import { mendLayer } from "./mend.ts";
import { SessionClients } from "./session-clients.ts";

const PROGRESS_INTERVAL_MS = 100;

const running = new Map<number, AbortController>();
const clients = new SessionClients();

function send(message: FromWorker): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage(message);
}

async function run(task: Numbered<Task>): Promise<void> {
  const { id } = task;
  const abort = new AbortController();
  running.set(id, abort);
  let lastMs = 0;
  const onProgress = (offsetBytes: number): void => {
    const nowMs = performance.now();
    if (nowMs - lastMs < PROGRESS_INTERVAL_MS) return;
    lastMs = nowMs;
    send({ kind: "progress", id, offsetBytes });
  };
  const options = { signal: abort.signal, onProgress, clients };
  let answer: FromWorker;
  try {
    const result = task.kind === "mend" ? mendLayer(task.job) : await runLayer(task.job, options);
    answer = { kind: "done", id, result };
  } catch (error) {
    answer = { kind: "failed", id, error: toPlainError(error) };
  }
  running.delete(id);
  send(answer);
}

parentPort!.on("message", (message: ToWorker) => {
  if (message.kind !== "cancel") void run(message);
  else running.get(message.id)?.abort(new StatusError("CANCELLED", "pull cancelled"));
});
