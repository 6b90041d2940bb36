/**
 * A file or a folder of a tree in use, as an archive.
 *
 * Invariants:
 *  1. Nothing outside of the root is read (A5): the start is resolved beneath it, everything below is opened by a single name
 *     in an open directory, and no link is followed. Whoever changes the tree meanwhile changes what is in the archive, not
 *     where it comes from.
 *  2. The archive is well formed whatever happens to the files: one that shrinks is filled up with zeros, one that grows is cut.
 *  3. Names begin with the start's own. Owner, mode and time of every entry are kept, hard links within the tree too;
 *     attributes are not, sockets and what lies in /proc and /sys are left out.
 *
 * Synchronous: use it in a worker.
 */
import { closeSync, constants, openSync, readSync, statfsSync } from "node:fs";
import { basename } from "node:path";
import { StatusError } from "@berth/base";
import { hasErrno, O_PATH, openAt, readlinkAt, statAt, statFd, tryOpenBeneath, type FileInfo } from "@berth/linux";
import { pathArg, showName, type EntryType } from "./entry.ts";
import { childrenOf } from "./remove-tree.ts";
import { archiveEnd, entryHeader, entryPadding } from "./write-entry.ts";

const { O_RDONLY, O_NONBLOCK } = constants;
/** Of one piece of the archive, and of one read. */
const PIECE_BYTES = 256 * 1024;
/** Each level holds a descriptor. */
const MAX_DEPTH = 256;
/** Of hard links, whose first name is remembered. */
const MAX_LINKS = 1_000_000;
const KERNEL_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x9fa0, 0x62656572]);

export interface PackTotals {
  files: number;
  bytes: number;
}

export interface PackedTree extends Disposable {
  /** The archive; a piece is the reader's to keep. */
  readonly pieces: Generator<Buffer>;
  /** Of what was given so far. */
  readonly totals: PackTotals;
}

/**
 * @param rootFd of the tree; `path` is absolute in it, links at its end are followed
 * @throws NOT_FOUND `PATH_MISSING`; FAILED_PRECONDITION `PATH_SPECIAL` for what is neither file nor folder.
 */
export function packTree(rootFd: number, path: string): PackedTree {
  const pinned = tryOpenBeneath(rootFd, path, O_PATH);
  if (pinned === undefined) throw new StatusError("NOT_FOUND", `${path} is not there`, { reason: "PATH_MISSING" });
  try {
    const { type } = statFd(pinned);
    if (type !== "file" && type !== "directory") {
      throw new StatusError("FAILED_PRECONDITION", `${path} is a ${type}, which cannot be copied`, {
        reason: "PATH_SPECIAL",
      });
    }
    // The very file that was found, whatever its name stands for by now.
    const fd = openSync(`/proc/self/fd/${pinned}`, O_RDONLY | O_NONBLOCK);
    const name = Buffer.from(basename(path) || "root").toString("latin1");
    const packer = new Packer();
    return {
      pieces: packer.all(fd, name),
      totals: packer.totals,
      [Symbol.dispose]: () => packer[Symbol.dispose](),
    };
  } finally {
    closeSync(pinned);
  }
}

class Packer implements Disposable {
  readonly totals: PackTotals = { files: 0, bytes: 0 };
  readonly #links = new Map<string, string>();
  readonly #open = new Set<number>();
  #piece = Buffer.allocUnsafe(PIECE_BYTES);
  #filled = 0;

  *all(fd: number, name: string): Generator<Buffer> {
    this.#open.add(fd);
    try {
      const info = statFd(fd);
      if (info.type === "directory") yield* this.#directory(fd, info, name, 0);
      else yield* this.#file(fd, info, name);
      yield* this.#put(archiveEnd);
      if (this.#filled > 0) yield this.#piece.subarray(0, this.#filled);
    } finally {
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open) closeSync(fd);
    this.#open.clear();
  }

  *#directory(fd: number, info: FileInfo, name: string, depth: number): Generator<Buffer> {
    yield* this.#header(info, "directory", name);
    if (KERNEL_FILE_SYSTEMS.has(statfsSync(`/proc/self/fd/${fd}`).type)) return;
    if (depth === MAX_DEPTH) {
      const text = `${showName(name)} lies deeper than ${MAX_DEPTH} directories`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "TREE_TOO_DEEP" });
    }
    for (const child of childrenOf(fd)) yield* this.#child(fd, child, `${name}/${child}`, depth + 1);
  }

  *#child(parent: number, child: string, name: string, depth: number): Generator<Buffer> {
    const arg = pathArg(child);
    const info = statAt(parent, arg);
    switch (info?.type) {
      case "file":
      case "directory":
        yield* this.#opened(parent, child, name, depth);
        break;
      case "symlink":
        yield* this.#header(info, "symlink", name, readlinkAt(parent, arg).toString("latin1"));
        break;
      case "character":
      case "block":
      case "fifo":
        yield* this.#header(info, info.type, name);
        break;
      case "socket":
      case "unknown":
      case undefined: // gone meanwhile
        break;
    }
  }

  *#opened(parent: number, child: string, name: string, depth: number): Generator<Buffer> {
    const fd = openIfThere(parent, child);
    if (fd === undefined) return;
    this.#open.add(fd);
    try {
      // Of what was opened: the name may stand for something else by now.
      const info = statFd(fd);
      if (info.type === "directory") yield* this.#directory(fd, info, name, depth);
      else if (info.type === "file") yield* this.#file(fd, info, name);
    } finally {
      if (this.#open.delete(fd)) closeSync(fd);
    }
  }

  *#file(fd: number, info: FileInfo, name: string): Generator<Buffer> {
    const first = this.#firstName(info, name);
    if (first !== undefined) return yield* this.#header(info, "hardlink", name, first);
    const { sizeBytes } = info;
    yield* this.#header(info, "file", name);
    for (let done = 0; done < sizeBytes;) {
      const room = Math.min(this.#piece.length - this.#filled, sizeBytes - done);
      const read = readSync(fd, this.#piece, this.#filled, room, done);
      if (read === 0) this.#piece.fill(0, this.#filled, this.#filled + room);
      const got = read === 0 ? room : read;
      this.#filled += got;
      this.totals.bytes += got;
      done += got;
      if (this.#filled === this.#piece.length) yield this.#take();
    }
    yield* this.#put(entryPadding(sizeBytes));
  }

  /** The name by which a file with several was given already. */
  #firstName({ links, deviceMajor, deviceMinor, inode }: FileInfo, name: string): string | undefined {
    if (links < 2) return undefined;
    const key = `${deviceMajor}:${deviceMinor}:${inode}`;
    const first = this.#links.get(key);
    if (first === undefined && this.#links.size < MAX_LINKS) this.#links.set(key, name);
    return first;
  }

  *#header(info: FileInfo, type: EntryType, name: string, linkName = ""): Generator<Buffer> {
    const { mode, uid, gid, modified, rdevMajor: deviceMajor, rdevMinor: deviceMinor } = info;
    const sizeBytes = type === "file" ? info.sizeBytes : 0;
    this.totals.files += 1;
    yield* this.#put(
      entryHeader({ name, type, mode, uid, gid, sizeBytes, modified, linkName, deviceMajor, deviceMinor }),
    );
  }

  *#put(bytes: Buffer): Generator<Buffer> {
    for (let at = 0; at < bytes.length;) {
      const copied = bytes.copy(this.#piece, this.#filled, at);
      this.#filled += copied;
      at += copied;
      if (this.#filled === this.#piece.length) yield this.#take();
    }
  }

  #take(): Buffer {
    const piece = this.#piece;
    this.#piece = Buffer.allocUnsafe(PIECE_BYTES);
    this.#filled = 0;
    return piece;
  }
}

/** Never through a link, and never waiting for a FIFO's other end. */
function openIfThere(parent: number, child: string): number | undefined {
  try {
    return openAt(parent, pathArg(child), O_RDONLY | O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, "ENOENT", "ELOOP", "ENXIO")) return undefined;
    throw error;
  }
}
