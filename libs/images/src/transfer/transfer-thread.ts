/**
 * The thread of one import, export or push at a time: its bulk bytes (A4), one job after another. Started by the first job.
 *
 * Cancelling sets a flag that every loop looks at, and the job is awaited; a thread that is stuck in a system call is
 * terminated after `graceMs`.
 */
import { Worker } from "node:worker_threads";
import { abortReason, siblingModule, StatusError, throwIfAborted } from "@berth/base";
import { fromPlainError } from "../pull/layer-job.ts";
import type { FromThread, JobResults, ToThread, TransferJob } from "./thread-protocol.ts";

const GRACE_MS = 5_000;

export interface JobListener {
  readonly moved?: (bytes: number) => void;
  readonly blob?: (news: Extract<FromThread, { kind: "blob" }>) => void;
}

export class TransferThread implements AsyncDisposable {
  readonly #cancelled = new Int32Array(new SharedArrayBuffer(4));
  #started: Worker | undefined;
  #usable = true;

  /** Can another transfer have it? Not after a cancellation, or when it died. */
  get usable(): boolean {
    return this.#usable;
  }

  get #worker(): Worker {
    if (this.#started !== undefined) return this.#started;
    const worker = new Worker(siblingModule("thread", import.meta.url), {
      name: "berth-transfer",
      workerData: this.#cancelled,
      trackUnmanagedFds: false,
    });
    // An error is followed by the exit, which is what counts; without a listener it would end the process.
    worker.on("error", () => {}).once("exit", () => (this.#usable = false));
    worker.unref();
    this.#started = worker;
    return worker;
  }

  /** @throws what the job threw; CANCELLED; INTERNAL `TRANSFER_THREAD_DIED` */
  async run<J extends TransferJob>(
    job: J,
    signal: AbortSignal,
    listener: JobListener = {},
  ): Promise<JobResults[J["kind"]]> {
    throwIfAborted(signal);
    const outcome = Promise.withResolvers<JobResults[keyof JobResults]>();
    const died = (error: unknown): void => {
      outcome.reject(
        new StatusError("INTERNAL", "transfer thread died", { reason: "TRANSFER_THREAD_DIED", cause: error }),
      );
    };
    const onMessage = (message: FromThread): void => {
      if (message.kind === "progress") listener.moved?.(message.bytes);
      else if (message.kind === "blob") listener.blob?.(message);
      else if (message.kind === "done") outcome.resolve(message.result);
      else outcome.reject(fromPlainError(message.error));
    };
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      this.#usable = false;
      Atomics.store(this.#cancelled, 0, 1);
      this.#tell({ kind: "cancel" });
      grace = setTimeout(() => void this.#worker.terminate(), GRACE_MS);
    };
    this.#worker.on("message", onMessage).once("error", died).once("exit", died).ref();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      this.#tell(job);
      return (await outcome.promise) as JobResults[J["kind"]];
    } catch (error) {
      throw signal.aborted ? abortReason(signal) : error;
    } finally {
      clearTimeout(grace);
      signal.removeEventListener("abort", onAbort);
      this.#worker.off("message", onMessage).off("error", died).off("exit", died).unref();
    }
  }

  #tell(message: ToThread): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started?.terminate();
  }
}
