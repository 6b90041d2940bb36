/**
 * What a worker does for one layer, in one pass: bytes → file and sha256 → decompress → sha256 of the diff → extraction.
 *
 * Invariants:
 *  - Success means that the digest, and where asked for the diff id, were computed here and match (A3).
 *  - When the archive proves broken while bytes still come, the rest is fetched all the same: if the registry sent wrong
 *    bytes, that is the error to report, and a good blob is not thrown away for a bad layer in it.
 *  - Whatever happens, no mount, descriptor, child process or connection is left.
 *  - On a full disk what was written is given back at once: the caller can only undo by writing to its metadata.
 */
import { createHash } from "node:crypto";
import { closeSync, truncateSync } from "node:fs";
import { StatusError, toDigest } from "@berth/base";
import { fromNodeError, openDirectory } from "@berth/linux";
import { writableDirectory } from "@berth/snapshots";
import { TreeWriter } from "../archive/apply.ts";
import { defaultArchiveLimits } from "../archive/entry.ts";
import { TarReader } from "../archive/reader.ts";
import { childrenOf, removeTree } from "../archive/remove-tree.ts";
import { Decompressor } from "./decompress.ts";
import type { JobResult, LayerJob, UnpackTarget } from "./layer-job.ts";
import { Download, readBlob, type SourceOptions } from "./layer-source.ts";
import { openMounts } from "./open-mounts.ts";
import type { SessionClients } from "./session-clients.ts";

const MAX_WARNINGS = 20;

export interface RunLayerOptions extends SourceOptions {
  readonly clients: SessionClients;
}

export async function runLayer(job: LayerJob, options: RunLayerOptions): Promise<JobResult> {
  try {
    return await run(job, options);
  } catch (raw) {
    const error = StatusError.from(fromNodeError(raw, "read", job.source.path));
    if (error.reason !== "DISK_FULL") throw named(error, job.subject);
    giveBack(job);
    throw named(
      error,
      job.subject,
      ` on the file system of ${writableDirectory(job.unpack?.mounts ?? []) ?? job.source.path}`,
    );
  }
}

async function run(job: LayerJob, options: RunLayerOptions): Promise<JobResult> {
  const { source, unpack } = job;
  using target = unpack === undefined ? undefined : openMounts(unpack.mounts, unpack.mountPoint);
  using diff = job.diffId === undefined ? undefined : new Diff(job, target?.fd, unpack);
  if (source.kind === "file") {
    await feed(readBlob(job, source.path, options), diff);
    await diff?.finish();
    return outcome(diff);
  }
  await using borrowed = options.clients.borrow(source.session);
  const download = new Download(job, borrowed.client, source.path, options);
  await feed(download, diff);
  const computed = download.computed();
  await diff?.finish();
  return { computed, ...outcome(diff) };
}

/** Empties the ingest and the layer's own directory; both are lost anyway. */
function giveBack({ source, unpack }: LayerJob): void {
  if (source.kind === "registry") truncateSync(source.path, 0);
  const directory = writableDirectory(unpack?.mounts ?? []);
  if (directory === undefined) return;
  const fd = openDirectory(directory);
  try {
    for (const child of childrenOf(fd)) removeTree(fd, child);
  } finally {
    closeSync(fd);
  }
}

function outcome(diff: Diff | undefined): Omit<JobResult, "computed"> {
  return {
    entries: diff?.entries ?? 0,
    usage: diff?.usage ?? { sizeBytes: 0, inodes: 0 },
    warnings: diff?.warnings ?? [],
    notes: diff?.notes,
  };
}

/** Passes every chunk on; a broken archive is remembered by `diff` and reported by its `finish`. */
async function feed(source: AsyncIterable<Buffer>, diff: Diff | undefined): Promise<void> {
  for await (const chunk of source) {
    const pending = diff?.write(chunk);
    if (pending !== undefined) await pending;
  }
}

/** Decompression, the hash of the result, and its extraction. */
class Diff implements Disposable {
  readonly warnings: string[] = [];
  readonly #job: LayerJob;
  readonly #hash = createHash("sha256");
  readonly #decompressor: Decompressor;
  readonly #writer: TreeWriter | undefined;
  readonly #reader: TarReader | undefined;
  /** Why the archive cannot be read; the bytes may still prove to be the wrong ones. */
  #broken: unknown;

  constructor(job: LayerJob, rootFd: number | undefined, unpack: UnpackTarget | undefined) {
    this.#job = job;
    if (rootFd !== undefined && unpack !== undefined) {
      const { mode, overlayXattrs, limits, devices = "allow" } = unpack;
      this.#writer = new TreeWriter(rootFd, {
        mode,
        overlayXattrs,
        limits,
        devices,
        onWarning: (text) => this.#warn(text),
      });
      this.#reader = new TarReader(this.#writer, limits);
    }
    this.#decompressor = new Decompressor({
      ...job.decompress,
      sizeBytes: job.sizeBytes,
      limits: unpack?.limits ?? defaultArchiveLimits,
      onData: (chunk) => {
        this.#hash.update(chunk);
        this.#reader?.push(chunk);
      },
    });
  }

  get entries(): number {
    return this.#reader?.entries ?? 0;
  }

  get notes(): JobResult["notes"] {
    const notes = this.#writer?.notes();
    if (notes === undefined || this.#broken === undefined) return notes;
    return { ...notes, needsMerged: StatusError.from(this.#broken).message };
  }

  get usage(): JobResult["usage"] {
    return this.#writer?.usage ?? { sizeBytes: 0, inodes: 0 };
  }

  write(chunk: Buffer): Promise<void> | undefined {
    if (this.#broken !== undefined) return undefined;
    try {
      return this.#decompressor.write(chunk)?.catch((error: unknown) => this.#breaks(error));
    } catch (error) {
      this.#breaks(error);
      return undefined;
    }
  }

  /**
   * What is refused apart from the layers below may be right over them, and gets its verdict there (`needsMerged`).
   * @throws what broke the archive; DATA_LOSS `LAYER_DIFF_ID_MISMATCH`
   */
  async finish(): Promise<void> {
    try {
      if (this.#broken === undefined) await this.#end();
    } catch (error) {
      this.#breaks(error);
    }
    if (this.#broken !== undefined) {
      if (this.#job.unpack?.mode === "detached") return;
      throw this.#broken;
    }
    this.#compare();
  }

  async #end(): Promise<void> {
    await this.#decompressor.end();
    this.#reader?.end();
    this.#writer?.finish();
  }

  #compare(): void {
    const { diffId, subject } = this.#job;
    const actual = toDigest(this.#hash);
    if (actual === diffId) return;
    const text = `${subject}: its content hashes to ${actual}, but the image's config says ${diffId}; the image is broken`;
    throw new StatusError("DATA_LOSS", text, { reason: "LAYER_DIFF_ID_MISMATCH" });
  }

  [Symbol.dispose](): void {
    this.#decompressor[Symbol.dispose]();
    this.#writer?.[Symbol.dispose]();
  }

  #breaks(error: unknown): void {
    if (!(error instanceof StatusError) || error.reason !== "LAYER_INVALID") throw error;
    this.#broken = error;
  }

  #warn(text: string): void {
    if (this.warnings.length < MAX_WARNINGS) this.warnings.push(text);
  }
}

/** The error with the layer's name in front, unless it stands there already. */
function named(status: StatusError, subject: string, more = ""): StatusError {
  const prefix = status.message.includes(subject) ? "" : `${subject}: `;
  if (status.code === "CANCELLED" || (prefix === "" && more === "")) return status;
  const { code, reason, details, retryAfterMs } = status;
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  return new StatusError(code, prefix + status.message + more, { reason, details, ...wait, cause: status });
}
