/**
 * The compressed bytes of a layer, from a registry through the ingest's file, or from a blob that is there.
 *
 * From a registry: what the file holds already is read and hashed first, the rest is asked for by range, appended and
 * hashed as it comes. A transfer that breaks off is resumed at its offset, a bounded number of times; the file is left as
 * it is when that fails, for the next pull to resume. Where one stream leaves this thread waiting for the network, the rest
 * of a large layer comes by several (ranges.ts); the file grows in order all the same.
 */
import { createHash, type Hash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import {
  backoffMs,
  type Backoff,
  digestAlgorithm,
  isTransient,
  StatusError,
  systemClock,
  throwIfAborted,
  toDigest,
} from "@berth/base";
import type { RegistryClient } from "@berth/registry";
import { fromNodeError } from "@berth/linux";
import { IdleMeter } from "./idle-meter.ts";
import type { JobResult, LayerJob } from "./layer-job.ts";
import { defaultRanges, parallelRanges, RANGES_IGNORED, type RangeConfig } from "./ranges.ts";

const READ_BYTES = 256 * 1024;
/** Tries in a row that bring nothing, and tries in all. */
const MAX_FRUITLESS = 5;
const MAX_RESUMES = 50;

export interface SourceOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (offsetBytes: number) => void;
}

/** Yields a committed blob. */
export async function* readBlob(job: LayerJob, path: string, options: SourceOptions): AsyncGenerator<Buffer> {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    for (let offset = 0; ;) {
      throwIfAborted(options.signal);
      const chunk = Buffer.allocUnsafe(READ_BYTES);
      const length = readSync(fd, chunk, 0, READ_BYTES, offset);
      if (length === 0) return;
      offset += length;
      yield chunk.subarray(0, length);
      options.onProgress(Math.min(offset, job.sizeBytes));
      // Lets a cancellation in.
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    closeSync(fd);
  }
}

/** A download into a file: iterate it to the end, then ask for what was computed. */
export class Download {
  readonly #job: LayerJob;
  readonly #client: RegistryClient;
  readonly #options: SourceOptions;
  readonly #hash: Hash;
  readonly #path: string;
  readonly #config: RangeConfig;
  /** By several streams: `wanted` from the next request on. */
  #parallel: "possible" | "wanted" | "on" | "never" = "possible";
  #offset = 0;

  constructor(job: LayerJob, client: RegistryClient, path: string, options: SourceOptions) {
    this.#job = job;
    this.#client = client;
    this.#path = path;
    this.#options = options;
    this.#hash = createHash(digestAlgorithm(job.digest));
    this.#config = this.#source().ranges ?? defaultRanges;
    if (this.#config.rangeConcurrency < 2) this.#parallel = "never";
  }

  /** @throws DATA_LOSS `LAYER_DIGEST_MISMATCH` for bytes that are not the layer's */
  computed(): NonNullable<JobResult["computed"]> {
    const { digest, subject } = this.#job;
    const actual = toDigest(this.#hash, digestAlgorithm(digest));
    if (actual === digest) return { digest, sizeBytes: this.#offset };
    const text = `${subject}: the registry sent bytes that hash to ${actual} instead of ${digest}; nothing was kept`;
    throw new StatusError("DATA_LOSS", text, { reason: "LAYER_DIGEST_MISMATCH" });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const fd = openSync(this.#path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      yield* this.#kept(fd);
      yield* this.#rest(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** What an earlier try left in the file. */
  async *#kept(fd: number): AsyncGenerator<Buffer> {
    const { size } = fstatSync(fd);
    if (size > this.#job.sizeBytes) throw this.#tooLong();
    while (this.#offset < size) {
      throwIfAborted(this.#options.signal);
      const chunk = Buffer.allocUnsafe(READ_BYTES);
      const length = readSync(fd, chunk, 0, READ_BYTES, this.#offset);
      if (length === 0) return;
      yield this.#took(chunk.subarray(0, length));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async *#rest(fd: number): AsyncGenerator<Buffer> {
    let fruitless = 0;
    for (let resumes = 0; this.#offset < this.#job.sizeBytes; resumes += 1) {
      const before = this.#offset;
      let failure: unknown;
      const transfer = this.#parallel === "on" ? this.#ranges() : this.#stream();
      try {
        for (;;) {
          // Only errors of the transfer are caught: those of whoever takes the bytes are not a reason to resume.
          const next = await transfer.next().catch((error: unknown) => {
            failure = error;
            return { done: true as const, value: undefined };
          });
          if (next.done) break;
          yield this.#append(fd, next.value);
        }
      } finally {
        await transfer.return(undefined);
      }
      if (this.#offset === this.#job.sizeBytes) return;
      throwIfAborted(this.#options.signal);
      if (this.#changedManner(failure)) continue;
      if (failure !== undefined && !isTransient(failure)) throw failure;
      fruitless = this.#offset > before ? 0 : fruitless + 1;
      if (fruitless >= MAX_FRUITLESS || resumes >= MAX_RESUMES) throw this.#truncated(failure);
      await systemClock.sleep(backoffMs(this.#backoff(), fruitless + 1), this.#options.signal);
    }
  }

  /** Did the transfer end only to go on by several streams, or by one again? */
  #changedManner(failure: unknown): boolean {
    if (failure === undefined && this.#parallel === "wanted") {
      this.#parallel = "on";
      return true;
    }
    if (failure instanceof StatusError && failure.reason === RANGES_IGNORED) {
      this.#parallel = "never";
      return true;
    }
    return false;
  }

  #backoff(): Backoff {
    const { backoffInitialMs = 200, backoffMaxMs = 10_000 } = this.#source().session.config;
    return { initialMs: backoffInitialMs, maxMs: backoffMaxMs, factor: 2 };
  }

  /** One request, from the current offset on; ends early where several would be faster. */
  async *#stream(): AsyncGenerator<Buffer> {
    const { ref } = this.#source();
    const { digest, sizeBytes } = this.#job;
    const { signal } = this.#options;
    await using stream = await this.#client.blob(ref, digest, { offsetBytes: this.#offset, signal });
    // A server without ranges starts over: what is here already is passed by.
    let skip = this.#offset - stream.offsetBytes;
    if (skip < 0)
      throw new StatusError("DATA_LOSS", `${this.#job.subject}: the registry sent another range than asked for`);
    const idle = this.#parallel === "never" ? undefined : new IdleMeter();
    const body = idle?.watch(stream.body) ?? stream.body;
    let judged = this.#offset;
    for await (const piece of body) {
      const passed = Math.min(skip, piece.length);
      skip -= passed;
      const chunk = Buffer.from(piece.buffer, piece.byteOffset + passed, piece.length - passed);
      if (this.#offset + chunk.length > sizeBytes) throw this.#tooLong();
      if (chunk.length > 0) yield chunk;
      if (idle === undefined || this.#offset - judged < this.#config.rangeBytes) continue;
      judged = this.#offset;
      if (this.#judge(idle)) return;
    }
  }

  /** Are several streams worth it, after what one has brought since the last time? */
  #judge(idle: IdleMeter): boolean {
    const { parallelRangeThresholdBytes, minIdleShare } = this.#config;
    const slow = idle.take() >= minIdleShare;
    if (!slow || this.#job.sizeBytes - this.#offset < parallelRangeThresholdBytes) return false;
    this.#parallel = "wanted";
    return true;
  }

  /** The rest by several requests at once. */
  async *#ranges(): AsyncGenerator<Buffer> {
    const { ref } = this.#source();
    const { digest, sizeBytes } = this.#job;
    const pieces = parallelRanges({
      ...this.#config,
      fromBytes: this.#offset,
      toBytes: sizeBytes,
      signal: this.#options.signal,
      open: (offsetBytes, lengthBytes, signal) => this.#client.blob(ref, digest, { offsetBytes, lengthBytes, signal }),
    });
    for await (const piece of pieces) yield Buffer.from(piece.buffer, piece.byteOffset, piece.length);
  }

  #source(): Extract<LayerJob["source"], { kind: "registry" }> {
    const { source } = this.#job;
    if (source.kind !== "registry") throw new Error("a download needs a registry");
    return source;
  }

  #append(fd: number, chunk: Buffer): Buffer {
    try {
      for (let done = 0; done < chunk.length;) {
        done += writeSync(fd, chunk, done, chunk.length - done, this.#offset + done);
      }
    } catch (raw) {
      const error = fromNodeError(raw, "write", JSON.stringify(this.#path));
      const full = error instanceof StatusError && (error.reason === "ENOSPC" || error.reason === "EDQUOT");
      if (!full) throw error;
      throw new StatusError("RESOURCE_EXHAUSTED", `${this.#job.subject}: disk full while writing ${this.#path}`, {
        reason: "DISK_FULL",
        cause: error,
      });
    }
    return this.#took(chunk);
  }

  #took(chunk: Buffer): Buffer {
    this.#hash.update(chunk);
    this.#offset += chunk.length;
    this.#options.onProgress(this.#offset);
    return chunk;
  }

  #tooLong(): StatusError {
    const text = `${this.#job.subject}: there are more than the ${this.#job.sizeBytes} bytes that its manifest names`;
    return new StatusError("DATA_LOSS", text, { reason: "LAYER_DIGEST_MISMATCH" });
  }

  #truncated(cause: unknown): StatusError {
    const why = cause === undefined ? "the registry ended it early" : StatusError.from(cause).message;
    const text = `${this.#job.subject}: transfer stopped at ${this.#offset} of ${this.#job.sizeBytes} bytes (${why}); pull again to resume`;
    return new StatusError("UNAVAILABLE", text, { reason: "LAYER_TRUNCATED", cause });
  }
}
