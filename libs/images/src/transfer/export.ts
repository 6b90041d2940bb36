/**
 * One export: chosen images to an OCI layout or a docker archive; see transfer.ts for its story.
 *
 * The same images give the same bytes: no times, no owners, names in order. Blobs are pinned before it is looked whether
 * they are here, so that a collection meanwhile leaves them alone.
 */
import { access, mkdir, readdir, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { dirname, join } from "node:path";
import { finished, pipeline } from "node:stream/promises";
import { digestAlgorithm, StatusError, throwIfAborted, uuidv7, type Digest } from "@berth/base";
import { fsyncDirectory, openPipe } from "@berth/linux";
import type { TransferContext } from "./context.ts";
import { exportParts, type ExportPlan } from "./export-plan.ts";
import type { ArchivePart } from "./thread-protocol.ts";
import type { ExportRequest, ExportResult } from "./transfer.ts";
import type { TransferTracker } from "./transfer-progress.ts";

const PIPE_BYTES = 1024 * 1024;

export async function exportImages(
  transfer: TransferContext,
  request: ExportRequest,
  progress: TransferTracker,
): Promise<ExportResult> {
  const { target } = request;
  const plan = await exportParts(transfer, request);
  for (const part of plan.parts) if (part.kind === "blob") progress.add(part.digest, part.sizeBytes);
  progress.phase("copying");
  const sizeBytes = await writeTo(transfer, plan, target);
  for (const part of plan.parts) if (part.kind === "blob") progress.state(part.digest, "done");
  progress.phase("done");
  const blobs = plan.parts.filter(({ kind }) => kind === "blob" || kind === "layer").length;
  return { images: plan.names, blobs, sizeBytes };
}

async function writeTo(transfer: TransferContext, plan: ExportPlan, target: ExportRequest["target"]): Promise<number> {
  switch (target.kind) {
    case "file":
      return await writeFileTarget(transfer, plan, target.path);
    case "stream":
      return await writeStream(transfer, plan, target.stream);
    case "directory":
      return await writeDirectory(transfer, plan, target.path);
  }
}

/** Beside its place, and then into it. */
async function writeFileTarget(transfer: TransferContext, { parts }: ExportPlan, path: string): Promise<number> {
  const partial = `${path}.${uuidv7()}.partial`;
  try {
    const { sizeBytes } = await transfer.thread.run(
      { kind: "write", target: { path: partial }, parts },
      transfer.signal,
      { moved: follow(transfer, parts) },
    );
    await rename(partial, path);
    await fsyncDirectory(dirname(path));
    return sizeBytes;
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/** Through a pipe, so that this thread only passes the bytes on. */
async function writeStream(
  transfer: TransferContext,
  { parts }: ExportPlan,
  stream: NodeJS.WritableStream & { destroy(error?: Error): unknown },
): Promise<number> {
  const pipe = openPipe(PIPE_BYTES);
  const output = new Socket({ fd: pipe.readFd, readable: true, writable: false });
  // The stream is ended only when all was written: a client must not take half an archive for a whole one.
  const sent = pipeline(output, stream, { end: false, signal: transfer.signal });
  const job = transfer.thread
    .run({ kind: "write", target: { fd: pipe.writeFd }, parts }, transfer.signal, { moved: follow(transfer, parts) })
    .catch((error: unknown) => {
      if (error instanceof StatusError && error.reason === "TRANSFER_THREAD_DIED") closeSync(pipe.writeFd);
      throw error;
    });
  const [written, passed] = await Promise.allSettled([job, sent]);
  try {
    throwIfAborted(transfer.signal);
    if (passed.status === "rejected") throw streamClosed(passed.reason);
    if (written.status === "rejected") throw written.reason;
    stream.end();
    await finished(stream, { signal: transfer.signal, readable: false });
    return written.value.sizeBytes;
  } catch (error) {
    stream.destroy(error instanceof Error ? error : undefined);
    throw error;
  } finally {
    output.destroy();
  }
}

/** `index.json` comes last: without it, it is no layout. */
async function writeDirectory(transfer: TransferContext, { parts }: ExportPlan, root: string): Promise<number> {
  const existed = await isEmptyOrMissing(root);
  await mkdir(root, { recursive: true });
  let sizeBytes = 0;
  try {
    for (const part of parts) {
      if (part.kind === "directory") await mkdir(join(root, part.name), { recursive: true });
      else if (part.kind === "blob") sizeBytes += await copyBlob(transfer, part, join(root, part.name));
    }
    for (const part of parts.toReversed()) {
      if (part.kind !== "bytes") continue;
      await writeFile(join(root, part.name), part.bytes, { flag: "wx" });
      sizeBytes += part.bytes.length;
    }
    return sizeBytes;
  } catch (error) {
    for (const name of await readdir(root)) await rm(join(root, name), { recursive: true });
    if (!existed) await rmdir(root);
    throw error;
  }
}

async function copyBlob(
  { thread, signal, progress }: TransferContext,
  { digest, path, sizeBytes }: Extract<ArchivePart, { kind: "blob" }>,
  target: string,
): Promise<number> {
  await writeFile(target, "", { flag: "wx" });
  const source = { kind: "file", path, offset: 0, length: sizeBytes } as const;
  const job = { kind: "copy", source, target, algorithm: digestAlgorithm(digest) } as const;
  const copied = await thread.run(job, signal, {
    moved: (bytes) => progress.offset(digest, bytes),
  });
  if (copied.digest !== digest) throw blobDamaged(digest);
  return sizeBytes;
}

/** Which blob the thread is at, by how much it has moved. */
function follow({ progress }: TransferContext, parts: readonly ArchivePart[]): (bytes: number) => void {
  const blobs = parts.filter((part) => part.kind === "blob");
  return (moved) => {
    let left = moved;
    for (const { digest, sizeBytes } of blobs) {
      if (left <= 0) return;
      progress.offset(digest, Math.min(left, sizeBytes));
      left -= sizeBytes;
    }
  };
}

async function isEmptyOrMissing(root: string): Promise<boolean> {
  const exists = await access(root).then(
    () => true,
    () => false,
  );
  if (!exists) return false;
  const names = await readdir(root).catch((error: unknown) => {
    throw StatusError.from(error);
  });
  if (names.length === 0) return true;
  const text = `export to ${JSON.stringify(root)}: the directory is not empty`;
  throw new StatusError("ALREADY_EXISTS", text, { reason: "EXPORT_TARGET_EXISTS" });
}

function blobDamaged(digest: Digest): StatusError {
  const text = `blob ${digest} is damaged on this node's disk; pull the image again`;
  return new StatusError("DATA_LOSS", text, { reason: "BLOB_DAMAGED" });
}

function streamClosed(cause: unknown): StatusError {
  const text = `export: its reader went away: ${StatusError.from(cause).message}`;
  return new StatusError("CANCELLED", text, { reason: "EXPORT_STREAM_CLOSED", cause });
}
