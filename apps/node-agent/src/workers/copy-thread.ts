/**
 * The thread of one copy: archives are made and unpacked here, so that no disk holds up the agent (A4). It sees the task's
 * files as the task does, through the root of its first process, and ends with the copy.
 */
import { closeSync, constants, openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { StatusError } from "@berth/base";
import { packTree, toPlainError, UnpackInto } from "@berth/images/trees";
import { processStartTicks } from "@berth/linux";
import { PIECES_AHEAD, type CopyJob, type FromCopyThread, type ToCopyThread } from "./copy-protocol.ts";

const job = workerData as CopyJob;
const port = parentPort!;

function tell(message: FromCopyThread, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

/** The root is opened before the process is looked at again: then it is that process's. */
function openRoot({ pid, startTicks }: CopyJob): number {
  const ended = (cause?: unknown): StatusError =>
    new StatusError("FAILED_PRECONDITION", "the task has ended", { reason: "TASK_NOT_RUNNING", cause });
  let root: number;
  try {
    root = openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw ended(error);
  }
  if (processStartTicks(pid) === startTicks) return root;
  closeSync(root);
  throw ended();
}

async function sendOut(root: number): Promise<void> {
  using tree = packTree(root, job.path);
  let ahead = 0;
  let wake = Promise.withResolvers<void>();
  port.on("message", (message: ToCopyThread) => {
    if (message.kind !== "sent") return;
    ahead -= 1;
    wake.resolve();
    wake = Promise.withResolvers();
  });
  tell({ kind: "ready" });
  for (const piece of tree.pieces) {
    while (ahead >= PIECES_AHEAD) await wake.promise;
    ahead += 1;
    const bytes = new Uint8Array(piece.buffer as ArrayBuffer, piece.byteOffset, piece.length);
    tell({ kind: "data", bytes }, [bytes.buffer]);
  }
  tell({ kind: "done", ...tree.totals });
}

async function takeIn(root: number): Promise<void> {
  using target = new UnpackInto(root, job.path);
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  port.on("message", (message: ToCopyThread) => {
    try {
      if (message.kind === "data") {
        target.push(Buffer.from(message.bytes.buffer, message.bytes.byteOffset, message.bytes.length));
        tell({ kind: "taken", bytes: message.bytes.length });
      } else if (message.kind === "end") resolve();
    } catch (error) {
      reject(error);
    }
  });
  tell({ kind: "ready" });
  await ended;
  tell({ kind: "done", ...target.finish() });
}

try {
  const root = openRoot(job);
  try {
    await (job.kind === "out" ? sendOut(root) : takeIn(root));
  } finally {
    closeSync(root);
  }
} catch (error) {
  tell({ kind: "failed", error: toPlainError(error) });
}
port.close();
