/**
 * Decompression as a push stream: compressed bytes in, plain ones out through a callback.
 *
 * Which compression it is, the first bytes tell, as containerd has it: media types are often wrong. gzip goes through ISA-L
 * where it is installed (`isal.ts`, twice as fast as zlib), else the programs `igzip` or `unpigz`, else node:zlib; all read
 * many members. zstd goes through its library (`libzstd.ts`), else the `zstd` program, else node:zlib with the frames taken
 * apart (`zstd-frames.ts`). Other compressions are refused by name. Before all that a layer goes through the stream
 * processors that its media type asks for (`stream-processors.ts`).
 *
 * Bombs: what comes out is bounded by its size and by its ratio to what went in ({@link ArchiveLimits}): LAYER_TOO_LARGE.
 */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { StatusError } from "@berth/base";
import { archiveTooLarge, type ArchiveLimits } from "../archive/entry.ts";
import { codecStage, type Codec, type OutputBuffers } from "./codec.ts";
import { startFilter } from "./filter-process.ts";
import { openIsal } from "./isal.ts";
import { openLibzstd } from "./libzstd.ts";
import { planProcessors, processorStage, type ProcessorStep, type StreamProcessor } from "./stream-processors.ts";
import { streamStage, zlibSource, type OnData, type Stage } from "./stream-stage.ts";
import { zstdFramesStage } from "./zstd-frames.ts";

/** Where a distribution or an administrator puts programs; the environment of whoever started us does not count. */
const PROGRAM_FOLDERS = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
const OUTPUT_CHUNK_BYTES = 128 * 1024;
/** Below this, starting a program takes longer than decompressing in this thread. */
const SMALL_BYTES = 512 * 1024;
/** Enough for the longest magic number, and less than any compressed layer. */
const MAGIC_BYTES = 10;
const EMPTY = Buffer.alloc(0);

export type Compression = "none" | "gzip" | "zstd";

/** What decompresses, if it is installed; each may be kept from being used. */
export type DecompressLibrary = "libisal" | "libzstd";
export type DecompressProgram = "igzip" | "unpigz" | "zstd";

/** Compressions that images may not use, by their first bytes. */
const FOREIGN: readonly (readonly [name: string, magic: string])[] = [
  ["xz", "\xfd7zXZ\0"],
  ["bzip2", "BZh91AY&SY"],
  ["lz4", "\x04\x22\x4d\x18"],
  ["lzip", "LZIP\x01"],
  ["zip", "PK\x03\x04"],
  ["7-Zip", "7z\xbc\xaf\x27\x1c"],
];

/** @throws INVALID_ARGUMENT `LAYER_UNSUPPORTED` for a compression that images may not use */
export function detectCompression(start: Uint8Array): Compression {
  if (start[0] === 0x1f && start[1] === 0x8b) return "gzip";
  if (start[0] === 0x28 && start[1] === 0xb5 && start[2] === 0x2f && start[3] === 0xfd) return "zstd";
  // A skippable frame, such as pzstd's: zstd as well.
  if ((start[0]! & 0xf0) === 0x50 && start[1] === 0x2a && start[2] === 0x4d && start[3] === 0x18) return "zstd";
  const text = Buffer.from(start.buffer, start.byteOffset, start.length).toString("latin1");
  const foreign = FOREIGN.find(([, magic]) => text.startsWith(magic));
  if (foreign === undefined) return "none";
  throw new StatusError(
    "INVALID_ARGUMENT",
    `layer is compressed with ${foreign[0]}, which images may not use; push it again with gzip, zstd or uncompressed`,
    { reason: "LAYER_UNSUPPORTED" },
  );
}

/** What an operator decides; structured-cloneable. */
export interface DecompressConfig {
  /** Not to be used although they are installed. */
  readonly without?: readonly (DecompressLibrary | DecompressProgram)[];
  /** As the manifest has it; only processors go by it. */
  readonly mediaType?: string;
  readonly processors?: readonly StreamProcessor[];
}

export interface DecompressOptions extends DecompressConfig {
  /** A chunk is valid during the call only. */
  readonly onData: OnData;
  /** Where a library decompresses to, for `onData` to hand on in place; what else decompresses has buffers of its own. */
  readonly buffers?: OutputBuffers;
  /** How much will be written, if that is known: for a small layer no program is started. */
  readonly sizeBytes?: number;
  /** Where a program lies, by name; undefined if it is not installed. */
  readonly findProgram?: (name: string) => string | undefined;
  /** Bounds what comes out; without it nothing does. */
  readonly limits?: ArchiveLimits;
}

export class Decompressor implements Disposable {
  readonly #options: DecompressOptions;
  readonly #steps: readonly ProcessorStep[];
  #start: Buffer = EMPTY;
  #stage: Stage | undefined;
  /** What a processor's output goes through. */
  #next: Decompressor | undefined;
  #bytesIn = 0;
  #bytesOut = 0;

  /** @throws FAILED_PRECONDITION `STREAM_PROCESSORS_INVALID` */
  constructor(options: DecompressOptions, steps?: readonly ProcessorStep[]) {
    this.#options = options;
    this.#steps = steps ?? planProcessors(options.mediaType ?? "", options.processors ?? []);
  }

  /** @throws what `onData` threw; LAYER_INVALID for damaged data; LAYER_TOO_LARGE; LAYER_UNSUPPORTED */
  write(chunk: Buffer): Promise<void> | void {
    this.#bytesIn += chunk.length;
    if (this.#stage !== undefined) return this.#stage.write(chunk);
    if (this.#steps.length > 0) return this.#open().write(chunk);
    const start = Buffer.concat([this.#start, chunk]);
    this.#start = start;
    if (start.length < MAGIC_BYTES) return;
    return this.#open().write(start);
  }

  async end(): Promise<void> {
    const start = this.#start;
    if (this.#stage === undefined && start.length > 0) await this.#open().write(start);
    await this.#stage?.end();
    await this.#next?.end();
  }

  [Symbol.dispose](): void {
    this.#stage?.destroy();
    this.#next?.[Symbol.dispose]();
  }

  #open(): Stage {
    const [step, ...rest] = this.#steps;
    if (step === undefined) this.#stage = openStage(detectCompression(this.#start), this.#options, this.#bounded());
    else {
      const next = new Decompressor(this.#options, rest);
      this.#next = next;
      // The stages that follow keep what they cannot take at once.
      this.#stage = processorStage(step, (chunk) => next.write(Buffer.from(chunk)));
    }
    this.#start = EMPTY;
    return this.#stage;
  }

  #bounded(): OnData {
    const { onData, limits } = this.#options;
    if (limits === undefined) return onData;
    const { maxTotalBytes, maxEntries, maxRatio, ratioFreeBytes } = limits;
    // Headers and padding come on top of the data of files.
    const maxBytes = maxTotalBytes + maxEntries * 2048;
    return (chunk) => {
      this.#bytesOut += chunk.length;
      if (this.#bytesOut > maxBytes) throw archiveTooLarge(`layer decompresses to more than ${maxBytes} bytes`);
      if (this.#bytesOut > ratioFreeBytes && this.#bytesOut > this.#bytesIn * maxRatio) {
        throw archiveTooLarge(`layer decompresses to more than ${maxRatio} times its size, as bombs do`);
      }
      return onData(chunk);
    };
  }
}

function openStage(compression: Compression, options: DecompressOptions, onData: OnData): Stage {
  const small = (options.sizeBytes ?? SMALL_BYTES) < SMALL_BYTES;
  const wanted = (name: DecompressLibrary | DecompressProgram): boolean => !options.without?.includes(name);
  const library = (name: DecompressLibrary, open: () => Codec | undefined): Codec | undefined =>
    wanted(name) ? open() : undefined;
  const program = (name: DecompressProgram): string | undefined =>
    small || !wanted(name) ? undefined : (options.findProgram ?? findProgram)(name);
  switch (compression) {
    case "none":
      return { write: onData, end: async () => {}, destroy: () => {} };
    case "gzip": {
      const codec = library("libisal", openIsal);
      if (codec !== undefined) return codecStage(codec, "gzip", onData, options.buffers);
      const path = program("igzip") ?? program("unpigz");
      if (path !== undefined) return childStage(path, ["-dc"], "gzip", onData);
      const gunzip = createGunzip({ chunkSize: OUTPUT_CHUNK_BYTES });
      const ended = new Promise<void>((resolve) => gunzip.once("end", resolve));
      return streamStage(gunzip, zlibSource(gunzip), ended, "gzip", onData);
    }
    case "zstd": {
      const codec = library("libzstd", openLibzstd);
      if (codec !== undefined) return codecStage(codec, "zstd", onData, options.buffers);
      const path = program("zstd");
      if (path !== undefined) return childStage(path, ["-dcq"], "zstd", onData);
      return zstdFramesStage(onData);
    }
  }
}

function childStage(program: string, args: string[], what: string, onData: OnData): Stage {
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

const found = new Map<string, string | undefined>();

function findProgram(name: string): string | undefined {
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
