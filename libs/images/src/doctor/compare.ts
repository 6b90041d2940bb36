/** Compares two trees in a thread of their own. */
import { Worker } from "node:worker_threads";
import { siblingModule, StatusError, withSignal } from "@berth/base";
import type { CompareReply, CompareRequest } from "./compare-thread.ts";

const THREAD = siblingModule("compare-thread", import.meta.url);

/** What differs, as `path (what)`; at most ten and then how many more. @throws what reading a tree throws; CANCELLED */
export async function compareTrees(one: string, other: string, signal?: AbortSignal): Promise<readonly string[]> {
  const worker = new Worker(THREAD, { workerData: { one, other } satisfies CompareRequest, name: "compare-trees" });
  const { promise, resolve, reject } = Promise.withResolvers<CompareReply>();
  worker.on("message", resolve).on("error", (error) => reject(StatusError.from(error, "comparing trees")));
  worker.on("exit", () => reject(new StatusError("INTERNAL", "the thread that compares trees has ended")));
  try {
    return (await withSignal(promise, signal)).differences;
  } finally {
    await worker.terminate();
  }
}
