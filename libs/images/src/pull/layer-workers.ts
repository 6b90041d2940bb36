/**
 * The pool of layer workers: made on demand, reused, ended when idle.
 *
 * How many jobs run at once is the callers' matter (slots.ts). There is no more than a thread for each processor: beyond
 * that, jobs share threads, as they mostly wait for the network or for a decompressor, and a thread costs some 100 ms and
 * 30 MB. A cancelled job is awaited, so that its mounts and files are gone when the caller goes on; a thread whose job
 * does not come to an end within `graceMs` is terminated, with all that runs on it.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { abortReason, siblingModule, StatusError, throwIfAborted } from "@berth/base";
import {
  fromPlainError,
  type FromWorker,
  type JobResult,
  type LayerJob,
  type MendJob,
  type MendResult,
  type Task,
  type ToWorker,
} from "./layer-job.ts";

export interface LayerWorkersConfig {
  readonly idleMs: number;
  readonly graceMs: number;
  /** Default: the processors, from 2 to 8. */
  readonly maxThreads?: number;
}

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (offsetBytes: number) => void;
}

interface Running {
  readonly resolve: (result: JobResult | MendResult) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: RunOptions["onProgress"];
}

export class LayerWorkers implements AsyncDisposable {
  readonly #config: LayerWorkersConfig;
  readonly #maxThreads: number;
  readonly #threads = new Set<Thread>();
  readonly #closing = new AbortController();

  constructor(config: LayerWorkersConfig) {
    this.#config = config;
    this.#maxThreads = config.maxThreads ?? Math.min(Math.max(2, availableParallelism()), 8);
  }

  /** How many threads there are. */
  get size(): number {
    return this.#threads.size;
  }

  /** How many more jobs would get a thread of their own. */
  get spare(): number {
    return this.#maxThreads - this.size + this.#idle().length;
  }

  /** @throws what the job threw; CANCELLED; INTERNAL `LAYER_WORKER_DIED` */
  async run(job: LayerJob, options: RunOptions = {}): Promise<JobResult> {
    return (await this.#send({ kind: "run", job }, options)) as JobResult;
  }

  /** @throws as {@link run} */
  async mend(job: MendJob, options: RunOptions = {}): Promise<MendResult> {
    return (await this.#send({ kind: "mend", job }, options)) as MendResult;
  }

  /** Starts threads ahead of the work, until there are `count` without any, or as many as there may be. */
  warm(count: number): void {
    if (this.#closing.signal.aborted) return;
    for (let idle = this.#idle().length; idle < count && this.size < this.#maxThreads; idle += 1) {
      this.#start().rest();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new StatusError("CANCELLED", "image service is closing"));
    await Promise.all([...this.#threads].map((thread) => thread.end()));
  }

  async #send(task: Task, { signal, onProgress }: RunOptions): Promise<JobResult | MendResult> {
    const within = AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])]);
    throwIfAborted(within);
    return await this.#pick().run(task, within, onProgress);
  }

  /** One without work, else a new one, else the one with the fewest jobs. */
  #pick(): Thread {
    const [idle] = this.#idle();
    if (idle !== undefined) return idle;
    if (this.size < this.#maxThreads) return this.#start();
    return [...this.#threads].reduce((least, thread) => (thread.jobs < least.jobs ? thread : least));
  }

  #idle(): Thread[] {
    return [...this.#threads].filter(({ jobs }) => jobs === 0);
  }

  #start(): Thread {
    const thread: Thread = new Thread(this.#config, () => this.#threads.delete(thread));
    this.#threads.add(thread);
    return thread;
  }
}

class Thread {
  readonly #config: LayerWorkersConfig;
  readonly #worker: Worker;
  readonly #running = new Map<number, Running>();
  readonly #exited: Promise<void>;
  #ids = 0;
  #idleTimer: NodeJS.Timeout | undefined;
  #idle = (): void => {};

  constructor(config: LayerWorkersConfig, onExit: () => void) {
    this.#config = config;
    // Node would count descriptors, but those of openat2 and openat are opened past it: it would warn at every close.
    this.#worker = new Worker(siblingModule("layer-worker", import.meta.url), {
      name: "berth-layer",
      trackUnmanagedFds: false,
      // Chunks from the network are garbage at once; with a larger nursery, 100 MB of them wait to be collected.
      resourceLimits: { maxYoungGenerationSizeMb: 8 },
    });
    this.#worker.on("message", (message: FromWorker) => this.#hear(message));
    let cause: unknown;
    this.#worker.once("error", (error) => (cause = error));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#exited = promise;
    this.#worker.once("exit", () => {
      clearTimeout(this.#idleTimer);
      onExit();
      this.#fail(new StatusError("INTERNAL", "layer worker died", { reason: "LAYER_WORKER_DIED", cause }));
      resolve();
    });
  }

  get jobs(): number {
    return this.#running.size;
  }

  async run(task: Task, signal: AbortSignal, onProgress: RunOptions["onProgress"]): Promise<JobResult | MendResult> {
    clearTimeout(this.#idleTimer);
    this.#worker.ref();
    const id = (this.#ids += 1);
    const { promise, resolve, reject } = Promise.withResolvers<JobResult | MendResult>();
    this.#running.set(id, { resolve, reject, onProgress });
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      this.#tell({ kind: "cancel", id });
      grace = setTimeout(() => void this.#worker.terminate(), this.#config.graceMs);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      this.#tell({ ...task, id });
      return await promise;
    } catch (error) {
      throw signal.aborted ? abortReason(signal) : error;
    } finally {
      clearTimeout(grace);
      signal.removeEventListener("abort", onAbort);
      this.#running.delete(id);
      if (this.#running.size === 0) this.rest();
    }
  }

  /** Without work: ends after a while, and does not keep the process. */
  rest(): void {
    this.#idle();
    this.#worker.unref();
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => void this.#worker.terminate(), this.#config.idleMs).unref();
  }

  /** Waits for its jobs, which have been cancelled. */
  async end(): Promise<void> {
    if (this.#running.size > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    await this.#worker.terminate();
    await this.#exited;
  }

  #hear(message: FromWorker): void {
    const running = this.#running.get(message.id);
    if (message.kind === "progress") running?.onProgress?.(message.offsetBytes);
    else if (message.kind === "done") running?.resolve(message.result);
    else running?.reject(fromPlainError(message.error));
  }

  #fail(error: StatusError): void {
    for (const { reject } of this.#running.values()) reject(error);
  }

  #tell(message: ToWorker): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(message);
  }
}
