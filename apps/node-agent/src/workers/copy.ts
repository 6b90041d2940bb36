/**
 * Copies out of a task and into it, each with a thread of its own for as long as it lasts. This side only passes bytes on: from
 * the stream to the thread and back, never more ahead than either takes.
 */
import { Worker } from "node:worker_threads";
import { siblingModule, StatusError, withSignal } from "@berth/base";
import type { CopyTotals, ServedStream } from "@berth/bus";
import { fromPlainError } from "@berth/images/trees";
import { BYTES_AHEAD, type CopyJob, type FromCopyThread, type ToCopyThread } from "./copy-protocol.ts";

/** A thread takes some 15 MB. */
const MAX_COPIES = 4;
const THREAD = siblingModule("copy-thread", import.meta.url);
/** Archives are streamed; only names of hard links are remembered. */
const LIMITS = { maxOldGenerationSizeMb: 128 };

let running = 0;

/**
 * Begins a copy: resolves when its path has been found, with what moves the bytes.
 * @throws NOT_FOUND `PATH_MISSING` and what else the thread finds; RESOURCE_EXHAUSTED `COPIES_FULL`.
 */
export async function beginCopy(job: CopyJob): Promise<(stream: ServedStream) => Promise<CopyTotals>> {
  if (running >= MAX_COPIES) {
    const text = `${MAX_COPIES} copies are under way on this node already; try again when one is done`;
    throw new StatusError("RESOURCE_EXHAUSTED", text, { reason: "COPIES_FULL" });
  }
  running += 1;
  const thread = new CopyThread(job);
  try {
    await thread.ready;
  } catch (error) {
    await thread[Symbol.asyncDispose]();
    throw error;
  }
  return async (stream) => {
    await using copying = thread;
    const moving = job.kind === "out" ? copying.sendTo(stream) : copying.takeFrom(stream);
    return await withSignal(moving, stream.signal);
  };
}

class CopyThread implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #ready = Promise.withResolvers<void>();
  readonly #done = Promise.withResolvers<CopyTotals>();
  readonly #pieces: Uint8Array[] = [];
  #wake = Promise.withResolvers<void>();
  #ahead = 0;
  #ended = false;

  constructor(job: CopyJob) {
    this.#worker = new Worker(THREAD, {
      name: "copy",
      workerData: job,
      resourceLimits: LIMITS,
      trackUnmanagedFds: false,
    });
    this.#worker.on("message", (message: FromCopyThread) => this.#hear(message));
    this.#worker.once("error", (error) => this.#fail(died(error)));
    this.#worker.once("exit", () => {
      running -= 1;
      this.#fail(died(undefined));
    });
    this.#done.promise.catch(() => {});
    this.#ready.promise.catch(() => {});
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** The archive to the stream, as its reader gives credit. */
  async sendTo(stream: ServedStream): Promise<CopyTotals> {
    stream.started();
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        await stream.stdout(piece);
        this.#tell({ kind: "sent" });
      } else if (this.#ended) return await this.#done.promise;
      else await this.#woken();
    }
  }

  /** The stream's input to the archive, as the disk takes it. */
  async takeFrom(stream: ServedStream): Promise<CopyTotals> {
    stream.started();
    // A disk that fails is told at once, also to a caller that has nothing to say just now.
    return await Promise.race([this.#take(stream.input), this.#done.promise]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  async #take(input: ServedStream["input"]): Promise<CopyTotals> {
    for await (const chunk of input) {
      // A view of the connection's buffer: the thread gets bytes of its own.
      const bytes = new Uint8Array(chunk);
      this.#ahead += bytes.length;
      this.#tell({ kind: "data", bytes }, [bytes.buffer]);
      while (this.#ahead > BYTES_AHEAD && !this.#ended) await this.#woken();
      if (this.#ended) return await this.#done.promise;
    }
    this.#tell({ kind: "end" });
    return await this.#done.promise;
  }

  #hear(message: FromCopyThread): void {
    switch (message.kind) {
      case "ready":
        this.#ready.resolve();
        break;
      case "data":
        this.#pieces.push(message.bytes);
        break;
      case "taken":
        this.#ahead -= message.bytes;
        break;
      case "done":
        this.#ended = true;
        this.#done.resolve({ files: message.files, bytes: message.bytes });
        break;
      case "failed":
        this.#fail(fromPlainError(message.error));
        break;
    }
    this.#wakeUp();
  }

  #fail(error: StatusError): void {
    this.#ended = true;
    this.#ready.reject(error);
    this.#done.reject(error);
    this.#wakeUp();
  }

  #tell(message: ToCopyThread, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #woken(): Promise<void> {
    return this.#wake.promise;
  }

  #wakeUp(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}

function died(cause: unknown): StatusError {
  return new StatusError("INTERNAL", "the thread of the copy has ended", { reason: "COPY_THREAD_DIED", cause });
}
