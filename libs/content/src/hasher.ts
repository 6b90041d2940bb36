/**
 * Digests of files. Small ones at once, for a thread costs more than they do; others in threads that start on demand and
 * leave after a while without work (A4).
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { Semaphore, siblingModule, StatusError, throwIfAborted, withSignal, type Digest } from "@berth/base";
import { fileError } from "./layout.ts";
import type { HashReply, HashRequest } from "./hash-thread.ts";

export interface Hashed {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export interface HashOptions {
  /** Reads no faster; for work in the background. */
  readonly rateBytesPerSecond?: number | undefined;
  /** Ends the thread that is at it. */
  readonly signal?: AbortSignal | undefined;
}

/** About half a millisecond of hashing. */
const INLINE_BYTES = 256 * 1024;
const MAX_THREADS = 2;
const IDLE_MS = 5_000;
const HASH_THREAD = siblingModule("hash-thread", import.meta.url);

export class Hasher implements AsyncDisposable {
  readonly #slots = new Semaphore(MAX_THREADS);
  readonly #idle = new Map<Worker, NodeJS.Timeout>();
  readonly #all = new Set<Worker>();

  /** How many threads there are now. */
  get threads(): number {
    return this.#all.size;
  }

  async hash(
    path: string,
    sizeBytes: number,
    algorithm: "sha256" | "sha512",
    { rateBytesPerSecond, signal }: HashOptions = {},
  ): Promise<Hashed> {
    throwIfAborted(signal);
    if (sizeBytes <= INLINE_BYTES) return await hashInline(path, algorithm);
    using _slot = await this.#slots.acquire(signal);
    const worker = this.#take();
    try {
      const reply = await withSignal(ask(worker, { path, algorithm, rateBytesPerSecond }), signal);
      this.#giveBack(worker);
      if ("hex" in reply) return { digest: `${algorithm}:${reply.hex}` as Digest, sizeBytes: reply.sizeBytes };
      throw fileError(Object.assign(new Error(reply.message), { code: reply.errno }), "hashing");
    } catch (error) {
      if (!this.#idle.has(worker)) await this.#end(worker);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#all].map((worker) => this.#end(worker)));
  }

  #take(): Worker {
    const [free] = this.#idle.keys();
    if (free !== undefined) {
      clearTimeout(this.#idle.get(free));
      this.#idle.delete(free);
      free.ref();
      return free;
    }
    const worker = new Worker(HASH_THREAD, { name: "content-hash" });
    this.#all.add(worker);
    worker.on("error", () => undefined);
    worker.on("exit", () => void this.#end(worker));
    return worker;
  }

  #giveBack(worker: Worker): void {
    worker.unref();
    const timer = setTimeout(() => void this.#end(worker), IDLE_MS);
    timer.unref();
    this.#idle.set(worker, timer);
  }

  async #end(worker: Worker): Promise<void> {
    clearTimeout(this.#idle.get(worker));
    this.#idle.delete(worker);
    this.#all.delete(worker);
    await worker.terminate();
  }
}

async function hashInline(path: string, algorithm: "sha256" | "sha512"): Promise<Hashed> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw fileError(error, "hashing");
  });
  return {
    digest: `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}` as Digest,
    sizeBytes: bytes.length,
  };
}

function ask(worker: Worker, request: HashRequest): Promise<HashReply> {
  const { promise, resolve, reject } = Promise.withResolvers<HashReply>();
  const onError = (error: Error): void => reject(StatusError.from(error, "hash thread"));
  const onExit = (): void =>
    reject(new StatusError("UNAVAILABLE", "the hash thread has ended", { reason: "CONTENT_CLOSED" }));
  worker.on("message", resolve).on("error", onError).on("exit", onExit);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage(request);
  return promise.finally(() => worker.off("message", resolve).off("error", onError).off("exit", onExit));
}
