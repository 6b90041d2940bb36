/** The thread of {@link compareTrees}: walks both trees side by side. */
import { parentPort, workerData } from "node:worker_threads";
import { treeDifferences } from "./trees.ts";

export interface CompareRequest {
  readonly one: string;
  readonly other: string;
}

export interface CompareReply {
  readonly differences: readonly string[];
}

const { one, other } = workerData as CompareRequest;
const reply: CompareReply = { differences: treeDifferences(one, other) };
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
parentPort!.postMessage(reply);
