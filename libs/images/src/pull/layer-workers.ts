/**
 * The pool of layer workers: made on demand, reused, ended when idle.
 *
 * How many jobs run at once is the callers' matter (semaphores of the pull); the pool has a worker for each. A cancelled
 * job is awaited, so that its mounts and files are gone when the caller goes on; a worker that does not come to an end
 * within `graceMs` is terminated.
 */
import { Worker } from "node:worker_threads";
import { abortReason, StatusError, throwIfAborted } from "@berth/base";
import {
  fromPlainError,
  type FromWorker,
  type JobResult,
  type LayerJob,
  type MendJob,
  type MendResult,
  type ToWorker,
} from "./layer-job.ts";

export interface LayerWorkersConfig {
  readonly idleMs: number;
  readonly graceMs: number;
}

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (offsetBytes: number) => void;
}

type Task = Exclude<ToWorker, { kind: "cancel" }>;

interface Idle {
  readonly worker: Worker;
  readonly timer: NodeJS.Timeout;
  /** Takes it out of the pool when it dies while idle. */
  readonly onExit: () => void;
}

export class LayerWorkers implements AsyncDisposable {
  readonly #config: LayerWorkersConfig;
  readonly #idle: Idle[] = [];
  readonly #busy = new Map<Worker, Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(config: LayerWorkersConfig) {
    this.#config = config;
  }

  /** How many threads there are. */
  get size(): number {
    return this.#idle.length + this.#busy.size;
  }

  /** @throws what the job threw; CANCELLED; INTERNAL `LAYER_WORKER_DIED` */
  async run(job: LayerJob, options: RunOptions = {}): Promise<JobResult> {
    return (await this.#send({ kind: "run", job }, options)) as JobResult;
  }

  /** @throws as {@link run} */
  async mend(job: MendJob, options: RunOptions = {}): Promise<MendResult> {
    return (await this.#send({ kind: "mend", job }, options)) as MendResult;
  }

  /** Starts threads ahead of the work, so that there are `count` that wait for some. */
  warm(count: number): void {
    if (this.#closing.signal.aborted) return;
    while (this.#idle.length < count) this.#rest(newWorker());
  }

  async #send(task: Task, options: RunOptions): Promise<JobResult | MendResult> {
    const signal = AbortSignal.any([this.#closing.signal, ...(options.signal === undefined ? [] : [options.signal])]);
    throwIfAborted(signal);
    const worker = this.#take();
    const running = this.#runOn(worker, task, signal, options.onProgress);
    const settled = running.then(
      () => undefined,
      () => undefined,
    );
    this.#busy.set(worker, settled);
    return await running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new StatusError("CANCELLED", "image service is closing"));
    await Promise.all(this.#busy.values());
    await Promise.all(
      this.#idle.splice(0).map(async ({ worker, timer }) => {
        clearTimeout(timer);
        await worker.terminate();
      }),
    );
  }

  #take(): Worker {
    const idle = this.#idle.pop();
    if (idle === undefined) return newWorker();
    clearTimeout(idle.timer);
    idle.worker.off("exit", idle.onExit).ref();
    return idle.worker;
  }

  async #runOn(
    worker: Worker,
    task: Task,
    signal: AbortSignal,
    onProgress: RunOptions["onProgress"],
  ): Promise<JobResult | MendResult> {
    const outcome = Promise.withResolvers<JobResult | MendResult>();
    const died = (error: unknown): void =>
      outcome.reject(new StatusError("INTERNAL", "layer worker died", { reason: "LAYER_WORKER_DIED", cause: error }));
    const onMessage = (message: FromWorker): void => {
      if (message.kind === "progress") onProgress?.(message.offsetBytes);
      else if (message.kind === "done") outcome.resolve(message.result);
      else outcome.reject(fromPlainError(message.error));
    };
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      tell(worker, { kind: "cancel" });
      grace = setTimeout(() => void worker.terminate(), this.#config.graceMs);
    };
    worker.on("message", onMessage).once("error", died).once("exit", died);
    signal.addEventListener("abort", onAbort, { once: true });
    let alive = true;
    try {
      tell(worker, task);
      return await outcome.promise;
    } catch (error) {
      alive = !(error instanceof StatusError && error.reason === "LAYER_WORKER_DIED");
      throw signal.aborted ? abortReason(signal) : error;
    } finally {
      clearTimeout(grace);
      signal.removeEventListener("abort", onAbort);
      worker.off("message", onMessage).off("error", died).off("exit", died);
      this.#giveBack(worker, alive);
    }
  }

  #giveBack(worker: Worker, alive: boolean): void {
    this.#busy.delete(worker);
    if (!alive) {
      void worker.terminate();
      return;
    }
    this.#rest(worker);
  }

  #rest(worker: Worker): void {
    worker.unref();
    const forget = (): void => {
      const at = this.#idle.findIndex((idle) => idle.worker === worker);
      if (at < 0) return;
      clearTimeout(this.#idle[at]!.timer);
      this.#idle.splice(at, 1);
    };
    const timer = setTimeout(() => {
      forget();
      void worker.terminate();
    }, this.#config.idleMs);
    timer.unref();
    worker.once("exit", forget);
    this.#idle.push({ worker, timer, onExit: forget });
  }
}

function newWorker(): Worker {
  // Node would count descriptors, but those of openat2 and openat are opened past it: it would warn at every close.
  const worker = new Worker(new URL("layer-worker.ts", import.meta.url), {
    name: "berth-layer",
    trackUnmanagedFds: false,
  });
  // An error is followed by the exit, which is what counts; without a listener it would end the process.
  return worker.on("error", () => {});
}

function tell(worker: Worker, message: ToWorker): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage(message);
}
