/** What a transfer's thread does with bytes that go out: a tar file of documents, blobs and plain layers, each hashed. */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync } from "node:fs";
import { digestAlgorithm, StatusError, toDigest } from "@berth/base";
import { Decompressor } from "../pull/decompress.ts";
import { tarEnd, tarHeader, tarPadding } from "./tar-header.ts";
import { CHUNK_BYTES, openFile, writeAll, type JobContext } from "./thread-jobs.ts";
import type { ArchivePart, JobResults, TransferJob } from "./thread-protocol.ts";

export async function writeJob(
  { target, parts }: Extract<TransferJob, { kind: "write" }>,
  context: JobContext,
): Promise<JobResults["write"]> {
  const path = "path" in target ? target.path : "the stream";
  const fd =
    "path" in target ? openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o644) : target.fd;
  let sizeBytes = 0;
  const write = (bytes: Uint8Array): void => {
    context.check();
    writeAll(fd, bytes, path);
    sizeBytes += bytes.length;
  };
  try {
    for (const part of parts) await writePart(part, write, context);
    write(tarEnd);
    if ("path" in target) fsyncSync(fd);
    return { sizeBytes };
  } finally {
    closeSync(fd);
  }
}

async function writePart(part: ArchivePart, write: (bytes: Uint8Array) => void, context: JobContext): Promise<void> {
  switch (part.kind) {
    case "directory":
      write(tarHeader(`${part.name}/`, 0, "directory"));
      return;
    case "bytes":
      write(tarHeader(part.name, part.bytes.length, "file"));
      write(part.bytes);
      write(tarPadding(part.bytes.length));
      return;
    case "blob":
      return writeBlob(part, write, context);
    case "layer":
      return await writeLayer(part, write, context);
  }
}

function writeBlob(
  { name, path, digest, sizeBytes }: Extract<ArchivePart, { kind: "blob" }>,
  write: (bytes: Uint8Array) => void,
  context: JobContext,
): void {
  const hash = createHash(digestAlgorithm(digest));
  const fd = openFile(path);
  try {
    if (fstatSync(fd).size !== sizeBytes) throw damaged(digest);
    write(tarHeader(name, sizeBytes, "file"));
    for (const chunk of chunksOf(fd, context)) {
      hash.update(chunk);
      write(chunk);
    }
  } finally {
    closeSync(fd);
  }
  if (toDigest(hash, digestAlgorithm(digest)) !== digest) throw damaged(digest);
  write(tarPadding(sizeBytes));
}

/** Twice over the blob: a tar header has the size, which only decompressing tells. */
async function writeLayer(
  { name, path, diffId }: Extract<ArchivePart, { kind: "layer" }>,
  write: (bytes: Uint8Array) => void,
  context: JobContext,
): Promise<void> {
  let sizeBytes = 0;
  await decompress(path, context, (chunk) => void (sizeBytes += chunk.length));
  write(tarHeader(name, sizeBytes, "file"));
  const hash = createHash(digestAlgorithm(diffId));
  await decompress(path, context, (chunk) => {
    hash.update(chunk);
    write(chunk);
  });
  if (toDigest(hash, digestAlgorithm(diffId)) !== diffId) throw damaged(diffId);
  write(tarPadding(sizeBytes));
}

async function decompress(path: string, context: JobContext, onData: (chunk: Buffer) => void): Promise<void> {
  const fd = openFile(path);
  try {
    using decompressor = new Decompressor({ onData });
    for (const chunk of chunksOf(fd, context)) {
      // The decompressor may keep it a while.
      const pending = decompressor.write(Buffer.from(chunk));
      if (pending !== undefined) await pending;
    }
    await decompressor.end();
  } finally {
    closeSync(fd);
  }
}

/** A chunk is valid until the next one is asked for. */
function* chunksOf(fd: number, context: JobContext): Generator<Buffer> {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (;;) {
    context.check();
    const length = readSync(fd, chunk, 0, CHUNK_BYTES, null);
    if (length === 0) return;
    context.moved(length);
    yield chunk.subarray(0, length);
  }
}

function damaged(digest: string): StatusError {
  const text = `blob ${digest} is damaged on this node's disk; pull the image again`;
  return new StatusError("DATA_LOSS", text, { reason: "BLOB_DAMAGED" });
}
