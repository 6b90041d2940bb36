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
import { closeSync, truncateSync } from "node:fs";
import { StatusError, throwIfAborted } from "@berth/base";
import { fromNodeError, openDirectory } from "@berth/linux";
import { writableDirectory } from "@berth/snapshots/mounting";
import { childrenOf, removeTree } from "../archive/remove-tree.ts";
import { Diff } from "./diff.ts";
import { Forward } from "./forward.ts";
import type { JobResult, LayerJob } from "./layer-job.ts";
import { Download, readBlob, type SourceOptions } from "./layer-source.ts";
import { openMounts } from "./open-mounts.ts";
import { RingReader, type RingMemory } from "./ring.ts";
import type { SessionClients } from "./session-clients.ts";

export interface RunLayerOptions extends SourceOptions {
  readonly clients: SessionClients;
}

export async function runLayer(job: LayerJob, options: RunLayerOptions): Promise<JobResult> {
  try {
    return await run(job, options);
  } catch (raw) {
    const error = StatusError.from(fromNodeError(raw, "read", pathOf(job)));
    if (error.reason !== "DISK_FULL") throw named(error, job.subject);
    giveBack(job);
    throw named(
      error,
      job.subject,
      ` on the file system of ${writableDirectory(job.unpack?.mounts ?? []) ?? pathOf(job)}`,
    );
  }
}

function pathOf({ source }: LayerJob): string {
  return source.kind === "ring" ? "ring" : source.path;
}

async function run(job: LayerJob, options: RunLayerOptions): Promise<JobResult> {
  const { source, unpack } = job;
  using forward = job.output === undefined ? undefined : new Forward(job, job.output);
  using target = unpack === undefined ? undefined : openMounts(unpack.mounts, unpack.mountPoint);
  using diff = job.diffId === undefined ? undefined : new Diff(job, target?.fd, unpack);
  if (source.kind === "ring") {
    await drain(source.memory, diff, options.signal);
    await diff?.finish();
    return outcome(diff);
  }
  if (source.kind === "file") {
    await feed(readBlob(job, source.path, options), diff);
    await diff?.finish();
    return outcome(diff);
  }
  await using borrowed = options.clients.borrow(source.session);
  const download = new Download(job, borrowed.client, source.path, options);
  await feed(download, diff ?? forward);
  const computed = download.computed();
  await diff?.finish();
  await forward?.finish();
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
async function feed(source: AsyncIterable<Buffer>, taker: Diff | Forward | undefined): Promise<void> {
  for await (const chunk of source) {
    const pending = taker?.write(chunk);
    if (pending !== undefined) await pending;
  }
}

/** Takes what another thread has decompressed; a broken archive ends it. */
async function drain(memory: RingMemory, diff: Diff | undefined, signal: AbortSignal): Promise<void> {
  const ring = new RingReader(memory);
  const onAbort = (): void => ring.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) onAbort();
    await ring.read((chunk) => diff?.take(chunk) !== false);
    throwIfAborted(signal);
  } finally {
    signal.removeEventListener("abort", onAbort);
    ring.close();
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
