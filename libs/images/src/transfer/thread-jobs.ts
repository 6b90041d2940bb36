/**
 * What a transfer's thread does with bytes that come in: archives made plain, indexed, and copied blob by blob.
 *
 * An archive's index has names, places and sizes, and no more than `maxEntries` of them; nothing in it is believed but that
 * bytes lie there. What a blob is, its hash says (A3).
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { StatusError, toDigest } from "@berth/base";
import { fromNodeError, openBeneath, openDirectory, Resolve } from "@berth/linux";
import { defaultArchiveLimits, type TarEntry } from "../archive/entry.ts";
import { TarReader } from "../archive/reader.ts";
import { Decompressor, detectCompression, type Compression } from "../pull/decompress.ts";
import type { ArchiveEntry, FileRange, FromThread, JobResults, TransferJob } from "./thread-protocol.ts";

export const CHUNK_BYTES = 256 * 1024;
const BLOCK = 512;
const WINDOW_BYTES = 32 * 1024;

export interface JobContext {
  readonly signal: AbortSignal;
  tell(news: Extract<FromThread, { kind: "blob" }>): void;
  /** @throws CANCELLED */
  check(): void;
  moved(bytes: number): void;
}

type Job<K extends TransferJob["kind"]> = Extract<TransferJob, { kind: K }>;

export async function spoolJob(
  { source, target, maxBytes }: Job<"spool">,
  context: JobContext,
): Promise<JobResults["spool"]> {
  const from = "fd" in source ? source.fd : openFile(source.path);
  const to = openSync(target, constants.O_WRONLY | constants.O_TRUNC);
  let sizeBytes = 0;
  try {
    using decompressor = new Decompressor({
      onData: (chunk) => {
        sizeBytes += chunk.length;
        if (sizeBytes > maxBytes) throw archiveInvalid(`it is larger than the ${maxBytes} bytes that are read`);
        writeAll(to, chunk, target);
      },
    });
    for (;;) {
      context.check();
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
      const length = readSync(from, chunk, 0, CHUNK_BYTES, null);
      if (length === 0) break;
      const pending = decompressor.write(chunk.subarray(0, length));
      if (pending !== undefined) await pending;
      context.moved(length);
    }
    await decompressor.end();
    context.check();
    return { sizeBytes };
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

/** Reads headers and passes by the data. */
export function indexJob({ path, maxEntries }: Job<"index">, context: JobContext): JobResults["index"] {
  const fd = openFile(path);
  const entries: ArchiveEntry[] = [];
  let position = 0;
  const sink = {
    entry: (entry: TarEntry): void => {
      const found = toEntry(entry, position);
      if (found !== undefined) entries.push(found);
    },
    data: (): void => {},
    endEntry: (): void => {},
  };
  try {
    const { size } = fstatSync(fd);
    const reader = new TarReader(sink, { ...defaultArchiveLimits, maxEntries, maxTotalBytes: size });
    const window = Buffer.allocUnsafe(WINDOW_BYTES);
    let [start, filled] = [0, 0];
    while (position < size) {
      if (position < start || position + BLOCK > start + filled) {
        context.check();
        start = position;
        filled = readSync(fd, window, 0, WINDOW_BYTES, start);
        if (filled === 0) break;
      }
      const at = position - start;
      const block = window.subarray(at, Math.min(at + BLOCK, filled));
      position += block.length;
      reader.push(block);
      position += reader.skip();
    }
    if (position > size) throw archiveInvalid("it breaks off in the middle of an entry");
    reader.end();
    return { entries };
  } catch (error) {
    throw asArchiveError(error, path);
  } finally {
    closeSync(fd);
  }
}

/** @throws NOT_FOUND, and what the file system says */
export function copyJob({ source, target, algorithm }: Job<"copy">, context: JobContext): JobResults["copy"] {
  const from = openRange(source);
  const to = openSync(target, constants.O_WRONLY | constants.O_TRUNC);
  const hash = createHash(algorithm);
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  const offset = source.kind === "file" ? source.offset : 0;
  let done = 0;
  let compression: Compression = "none";
  try {
    while (done < source.length) {
      context.check();
      const length = readSync(from, chunk, 0, Math.min(CHUNK_BYTES, source.length - done), offset + done);
      if (length === 0) break;
      const piece = chunk.subarray(0, length);
      if (done === 0) compression = detectCompression(piece);
      hash.update(piece);
      writeAll(to, piece, target);
      done += length;
      context.moved(length);
    }
    return { digest: toDigest(hash, algorithm), sizeBytes: done, compression };
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

export function writeAll(fd: number, bytes: Uint8Array, path: string): void {
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done);
  } catch (raw) {
    const error = fromNodeError(raw, "write", JSON.stringify(path));
    const full = error instanceof StatusError && (error.reason === "ENOSPC" || error.reason === "EDQUOT");
    if (!full) throw error;
    throw new StatusError("RESOURCE_EXHAUSTED", `disk full while writing ${path}`, {
      reason: "DISK_FULL",
      cause: error,
    });
  }
}

/** Not a device or a pipe, which could hang or never end. */
export function openFile(path: string): number {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fromNodeError(error, "open", JSON.stringify(path));
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw archiveInvalid(`${JSON.stringify(path)} is not a regular file`);
}

export function archiveInvalid(why: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `archive: ${why}`, { reason: "ARCHIVE_INVALID" });
}

function openRange(source: FileRange): number {
  if (source.kind === "file") return openFile(source.path);
  const root = openDirectory(source.root);
  try {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK;
    const fd = openBeneath(root, source.name, flags, 0, Resolve.beneath | Resolve.noSymlinks);
    if (fstatSync(fd).isFile()) return fd;
    closeSync(fd);
    throw archiveInvalid(`${JSON.stringify(source.name)} is not a regular file`);
  } finally {
    closeSync(root);
  }
}

/** Files and links with names that stay within the archive; nothing else can be meant by a document. */
function toEntry({ name, type, sizeBytes, linkName, sparse }: TarEntry, offset: number): ArchiveEntry | undefined {
  const normal = normalName(name);
  if (normal === undefined) return undefined;
  if (type === "file" && sparse === undefined) return { name: normal, offset, sizeBytes };
  if (type !== "symlink" && type !== "hardlink") return undefined;
  const base = type === "hardlink" ? "" : normal.slice(0, normal.lastIndexOf("/") + 1);
  const link = normalName(linkName.startsWith("/") ? linkName : base + linkName);
  return link === undefined ? undefined : { name: normal, offset: 0, sizeBytes: 0, link };
}

/** Without `.` and empty parts, `..` resolved; undefined where it leads out. */
export function normalName(name: string): string | undefined {
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.length === 0 ? undefined : parts.join("/");
}

function asArchiveError(error: unknown, path: string): unknown {
  if (!(error instanceof StatusError) || error.reason !== "LAYER_INVALID") return error;
  return archiveInvalid(`${JSON.stringify(path)}: ${error.message}`);
}
