/**
 * Makes an import's source readable: a directory as it is; a tar file by its index; what is compressed, or comes as a
 * stream, first as a file in the content store's place for unfinished things, which goes at the end or expires after a crash.
 */
import { open, stat } from "node:fs/promises";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import type { Readable } from "node:stream";
import { StatusError, throwIfAborted, uuidv7 } from "@berth/base";
import { openPipe } from "@berth/linux";
import { detectCompression } from "../pull/decompress.ts";
import { archiveInvalid, directoryFiles, tarFiles, type ArchiveFiles } from "./archive.ts";
import type { TransferContext } from "./context.ts";
import type { ImportSource } from "./transfer.ts";

const MAX_ENTRIES = 200_000;
const PIPE_BYTES = 1024 * 1024;

export interface OpenArchive extends AsyncDisposable {
  readonly files: ArchiveFiles;
}

export async function openArchive(transfer: TransferContext, source: ImportSource): Promise<OpenArchive> {
  if (source.kind === "directory") {
    const info = await stat(source.path).catch((error: unknown) => {
      throw StatusError.from(error);
    });
    if (!info.isDirectory()) throw archiveInvalid(`${JSON.stringify(source.path)} is not a directory`);
    return { files: directoryFiles(source.path), [Symbol.asyncDispose]: async () => {} };
  }
  if (source.kind === "file" && !(await isCompressed(source.path))) {
    const files = await indexed(transfer, source.path);
    return { files, [Symbol.asyncDispose]: async () => {} };
  }
  return await spooled(transfer, source);
}

async function spooled(
  transfer: TransferContext,
  source: Exclude<ImportSource, { kind: "directory" }>,
): Promise<OpenArchive> {
  const { namespace, deps } = transfer;
  const { content, logger } = deps.shared;
  const ref = `import-${uuidv7()}`;
  const writer = await content.writer(namespace, { ref });
  const drop = async (): Promise<void> => {
    await writer[Symbol.asyncDispose]();
    await content
      .abort(namespace, ref)
      .catch((error: unknown) => logger.warn({ error, ref }, "dropping an import's file failed; it will expire"));
  };
  try {
    if (source.kind === "file") await spoolFile(transfer, source.path, writer.dataPath);
    else await spoolStream(transfer, source.stream, writer.dataPath);
    return { files: await indexed(transfer, writer.dataPath), [Symbol.asyncDispose]: drop };
  } catch (error) {
    await drop();
    throw error;
  }
}

async function indexed({ thread, signal }: TransferContext, path: string): Promise<ArchiveFiles> {
  const { entries } = await thread.run({ kind: "index", path, maxEntries: MAX_ENTRIES }, signal);
  return tarFiles(path, entries);
}

async function spoolFile({ thread, deps, signal }: TransferContext, path: string, target: string): Promise<void> {
  const maxBytes = deps.shared.limits.maxTotalBytes;
  await thread.run({ kind: "spool", source: { path }, target, maxBytes }, signal);
}

/** Through a pipe, so that this thread only passes the bytes on. */
async function spoolStream(transfer: TransferContext, stream: Readable, target: string): Promise<void> {
  const { thread, deps, signal } = transfer;
  const pipe = openPipe(PIPE_BYTES);
  const input = new Socket({ fd: pipe.writeFd, readable: false, writable: true });
  const maxBytes = deps.shared.limits.maxTotalBytes;
  const source = { fd: pipe.readFd };
  const job = thread.run({ kind: "spool", source, target, maxBytes }, signal).finally(() => input.destroy());
  const sent = pipeline(stream, input, { signal });
  const [outcome, sending] = await Promise.allSettled([job, sent]);
  throwIfAborted(signal);
  if (outcome.status === "rejected") {
    // The thread never saw it.
    if (isUnstarted(outcome.reason)) closeSync(pipe.readFd);
    throw outcome.reason;
  }
  if (sending.status === "rejected") {
    const { message } = StatusError.from(sending.reason);
    throw new StatusError("UNAVAILABLE", `archive: its stream broke off: ${message}`, {
      reason: "ARCHIVE_TRUNCATED",
      cause: sending.reason,
    });
  }
}

function isUnstarted(error: unknown): boolean {
  return error instanceof StatusError && error.reason === "TRANSFER_THREAD_DIED";
}

async function isCompressed(path: string): Promise<boolean> {
  const file = await open(path).catch((error: unknown) => {
    throw StatusError.from(error);
  });
  try {
    if (!(await file.stat()).isFile()) throw archiveInvalid(`${JSON.stringify(path)} is not a regular file`);
    const start = Buffer.alloc(8);
    const { bytesRead } = await file.read(start, 0, start.length, 0);
    return detectCompression(start.subarray(0, bytesRead)) !== "none";
  } finally {
    await file.close();
  }
}
