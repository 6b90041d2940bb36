/**
 * Decompression as a push stream: compressed bytes in, plain ones out through a callback.
 *
 * Which compression it is, the first bytes tell, as containerd has it: media types are often wrong. gzip goes through
 * `igzip` where it is installed (half again as fast as zlib), else through node:zlib; both read many members. zstd goes
 * through `zstd`: Node's own decoder stops at the second frame.
 */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { createGunzip } from "node:zlib";
import { StatusError } from "@berth/base";
import { invalidArchive } from "../archive/entry.ts";
import { startFilter, type ChunkSource } from "./filter-process.ts";

/** Where a distribution or an administrator puts programs; the environment of whoever started us does not count. */
const PROGRAM_FOLDERS = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
const OUTPUT_CHUNK_BYTES = 128 * 1024;
const MAGIC_BYTES = 4;
/** What may wait for the decompressor, so that it and the transfer need not keep step. */
const MAX_QUEUED_BYTES = 4 * 1024 * 1024;

export type Compression = "none" | "gzip" | "zstd";

export function detectCompression(start: Uint8Array): Compression {
  if (start[0] === 0x1f && start[1] === 0x8b) return "gzip";
  if (start[0] === 0x28 && start[1] === 0xb5 && start[2] === 0x2f && start[3] === 0xfd) return "zstd";
  return "none";
}

export interface DecompressOptions {
  /** A chunk is valid during the call only. */
  readonly onData: (chunk: Buffer) => void;
  /** Where a program lies, by name; undefined if it is not installed. */
  readonly findProgram?: (name: string) => string | undefined;
}

/** A stage that something is written to and that must be ended or destroyed. */
interface Stage {
  /** Resolves when more may be written. */
  write(chunk: Buffer): Promise<void> | void;
  /** Resolves when all output has gone through `onData`. */
  end(): Promise<void>;
  destroy(): void;
}

export class Decompressor implements Disposable {
  readonly #options: DecompressOptions;
  #start: Buffer | undefined = Buffer.alloc(0);
  #stage: Stage | undefined;

  constructor(options: DecompressOptions) {
    this.#options = options;
  }

  /** @throws what `onData` threw; LAYER_INVALID for damaged data; FAILED_PRECONDITION `LAYER_ZSTD_MISSING` */
  write(chunk: Buffer): Promise<void> | void {
    if (this.#stage !== undefined) return this.#stage.write(chunk);
    this.#start = Buffer.concat([this.#start!, chunk]);
    if (this.#start.length < MAGIC_BYTES) return;
    return this.#open().write(this.#start);
  }

  async end(): Promise<void> {
    if (this.#stage === undefined && this.#start!.length > 0) await this.#open().write(this.#start!);
    await this.#stage?.end();
  }

  [Symbol.dispose](): void {
    this.#stage?.destroy();
  }

  #open(): Stage {
    this.#stage = openStage(detectCompression(this.#start!), this.#options);
    return this.#stage;
  }
}

function openStage(compression: Compression, options: DecompressOptions): Stage {
  const find = options.findProgram ?? findProgram;
  switch (compression) {
    case "none":
      return { write: (chunk) => options.onData(chunk), end: async () => {}, destroy: () => {} };
    case "gzip": {
      const igzip = find("igzip");
      if (igzip !== undefined) return childStage(igzip, ["-dc"], "gzip", options.onData);
      const gunzip = createGunzip({ chunkSize: OUTPUT_CHUNK_BYTES });
      const ended = new Promise<void>((resolve) => gunzip.once("end", resolve));
      const output = { stream: gunzip, listen: (take: (chunk: Buffer) => void) => void gunzip.on("data", take) };
      return streamStage(gunzip, output, ended, "gzip", options.onData);
    }
    case "zstd": {
      const zstd = find("zstd");
      if (zstd !== undefined) return childStage(zstd, ["-dcq"], "zstd", options.onData);
      throw new StatusError("FAILED_PRECONDITION", "layer is compressed with zstd; install the zstd program", {
        reason: "LAYER_ZSTD_MISSING",
      });
    }
  }
}

function childStage(program: string, args: string[], what: string, onData: (chunk: Buffer) => void): Stage {
  const filter = startFilter(program, args);
  const stage = streamStage(filter.input, filter.output, filter.ended, what, onData);
  return {
    ...stage,
    destroy() {
      filter.kill();
      stage.destroy();
    },
  };
}

function streamStage(
  input: Writable,
  output: ChunkSource,
  ended: Promise<void>,
  what: string,
  onData: (chunk: Buffer) => void,
): Stage {
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  let failure: unknown;
  const fail = (error: unknown): void => {
    failure ??= error;
    failed.reject(failure);
    output.stream.destroy();
    input.destroy();
  };
  const damaged = (error: unknown): void => {
    const text = error instanceof Error ? error.message : String(error);
    fail(invalidArchive(`layer is damaged: its ${what} data cannot be read (${text})`));
  };
  output.listen((chunk) => {
    if (failure !== undefined) return;
    try {
      onData(chunk);
    } catch (error) {
      fail(error);
    }
  });
  // A child that ends early breaks the pipe; why it ended is what counts, and `ended` says that.
  input.on("error", (error: NodeJS.ErrnoException) => (error.code === "EPIPE" ? undefined : damaged(error)));
  output.stream.on("error", damaged);
  ended.catch(damaged);
  const outcome = Promise.race([ended, failed.promise]);
  outcome.catch(() => {});
  return {
    write(chunk) {
      if (failure !== undefined) throw failure;
      input.write(chunk);
      if (input.writableLength < MAX_QUEUED_BYTES) return;
      return Promise.race([drained(input), failed.promise]);
    },
    async end() {
      if (failure !== undefined) throw failure;
      input.end();
      // `failure` says it better: what the child's end means, or what `onData` threw.
      await outcome.catch(() => undefined);
      if (failure !== undefined) throw failure;
    },
    destroy() {
      fail(new Error("destroyed"));
    },
  };
}

function drained(input: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      input.off("drain", done).off("close", done);
      resolve();
    };
    input.on("drain", done).on("close", done);
  });
}

const found = new Map<string, string | undefined>();

export function findProgram(name: string): string | undefined {
  if (!found.has(name)) found.set(name, searchPath(name));
  return found.get(name);
}

function searchPath(name: string): string | undefined {
  return PROGRAM_FOLDERS.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
