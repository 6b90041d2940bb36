/**
 * An archive that is being read: which files it has and where their bytes lie, whether it is a tar file or a directory.
 *
 * Names are hostile (A5): they are keys of a map, or resolved beneath the directory in the kernel, never paths of ours.
 * Documents are read whole and bounded, blobs only by a transfer's thread.
 */
import { closeSync, constants, fstatSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import { StatusError } from "@berth/base";
import { openBeneath, openDirectory, Resolve } from "@berth/linux";
import type { ArchiveEntry, FileRange } from "./thread-protocol.ts";

const MAX_LINKS = 8;

export interface ArchiveFiles {
  /** Undefined where there is no such file. */
  find(name: string): FileRange | undefined;
  /** @throws INVALID_ARGUMENT `ARCHIVE_INVALID` when it is missing or larger */
  read(name: string, maxBytes: number): Promise<Buffer>;
}

/** Of what was indexed; the later of two entries of one name counts, as in unpacking. */
export function tarFiles(path: string, entries: readonly ArchiveEntry[]): ArchiveFiles {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const find = (name: string): FileRange | undefined => {
    let entry = byName.get(name);
    for (let links = 0; entry?.link !== undefined && links < MAX_LINKS; links += 1) entry = byName.get(entry.link);
    if (entry === undefined || entry.link !== undefined) return undefined;
    return { kind: "file", path, offset: entry.offset, length: entry.sizeBytes };
  };
  return {
    find,
    async read(name, maxBytes) {
      const range = find(name);
      if (range?.kind !== "file") throw missingFile(name);
      checkSize(name, range.length, maxBytes);
      const file = await open(path, constants.O_RDONLY);
      try {
        const bytes = Buffer.alloc(range.length);
        const { bytesRead } = await file.read(bytes, 0, range.length, range.offset);
        return bytes.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    },
  };
}

/** Of an OCI layout; small, so that its documents are read here and now. */
export function directoryFiles(root: string): ArchiveFiles {
  const find = (name: string): FileRange | undefined => {
    const fd = openInside(root, name);
    if (fd === undefined) return undefined;
    try {
      const info = fstatSync(fd);
      return info.isFile() ? { kind: "beneath", root, name, length: info.size } : undefined;
    } finally {
      closeSync(fd);
    }
  };
  return {
    find,
    async read(name, maxBytes) {
      const fd = openInside(root, name);
      if (fd === undefined) throw missingFile(name);
      try {
        const info = fstatSync(fd);
        if (!info.isFile()) throw missingFile(name);
        checkSize(name, info.size, maxBytes);
        const bytes = Buffer.alloc(info.size);
        return bytes.subarray(0, readSync(fd, bytes, 0, info.size, 0));
      } finally {
        closeSync(fd);
      }
    },
  };
}

export function archiveInvalid(why: string, cause?: unknown): StatusError {
  return new StatusError("INVALID_ARGUMENT", `archive: ${why}`, { reason: "ARCHIVE_INVALID", cause });
}

/** Without following links, which a stranger may have put there. */
function openInside(root: string, name: string): number | undefined {
  const directory = openDirectory(root);
  try {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK;
    return openBeneath(directory, name, flags, 0, Resolve.beneath | Resolve.noSymlinks);
  } catch (error) {
    const status = StatusError.from(error);
    if (status.code === "NOT_FOUND") return undefined;
    throw archiveInvalid(`${JSON.stringify(name)} cannot be opened: ${status.reason}`, error);
  } finally {
    closeSync(directory);
  }
}

function checkSize(name: string, sizeBytes: number, maxBytes: number): void {
  if (sizeBytes > maxBytes) {
    throw archiveInvalid(`${JSON.stringify(name)} is ${sizeBytes} bytes, more than the ${maxBytes} that are read`);
  }
}

function missingFile(name: string): StatusError {
  return archiveInvalid(`it has no file ${JSON.stringify(name)}`);
}
