/**
 * Applies a layer's archive to a directory, in one of three ways ({@link ApplyMode}).
 *
 * Invariants:
 *  1. Nothing outside the root is ever touched: parents are resolved beneath it by openat2, entries are made by single names
 *     relative to them, and no call follows a link in a last component (A5).
 *  2. What an archive says last wins: a file replaces a directory and the reverse; only directory over directory merges.
 *  3. Times of directories are set when all is written.
 *
 * All three give the same tree in the end: `whiteouts.ts` and `detached.ts` say how what is below is hidden.
 */
import { closeSync, constants, fchmodSync, fchownSync, ftruncateSync, writeSync } from "node:fs";
import { StatusError } from "@berth/base";
import {
  chmodAt,
  chownAt,
  fromNodeError,
  hasErrno,
  isWhiteout,
  linkAt,
  mkdirAt,
  mknodAt,
  openAt,
  pathAt,
  setTimes,
  setTimesAt,
  setXattr,
  statAt,
  symlinkAt,
  type FileInfo,
  type OverlayXattrPrefix,
  type XattrTarget,
} from "@berth/linux";
import { DetachedUpper, type DetachedNotes } from "./detached.ts";
import { Directories } from "./directories.ts";
import { defaultArchiveLimits, invalidArchive, pathArg, showName, type ArchiveLimits, type TarEntry } from "./entry.ts";
import { resolveName, type EntryPath } from "./names.ts";
import type { TarSink } from "./reader.ts";
import { removeTree } from "./remove-tree.ts";
import { applyWhiteout, isMetaPath, isWhiteoutName, MergedView, type Below } from "./whiteouts.ts";

const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_WRONLY } = constants;
const DEVICE_TYPES = { character: 0o020000, block: 0o060000, fifo: 0o010000 } as const;
const BLOCK_BYTES = 4096;
const MAX_LINK_TARGET = 4095;
const DISK_FULL: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT"]);
const ARCHIVE_AT_FAULT: ReadonlySet<string> = new Set([
  "EXDEV",
  // A hard link that takes the place of the directory its target is in.
  "ENOENT",
  "ELOOP",
  "ENAMETOOLONG",
  "ENOTDIR",
  "EISDIR",
  "EINVAL",
]);

/**
 * `base`: nothing is below, so that whiteouts say nothing. `merged`: over the mounted chain; whiteouts are deletions there.
 * `detached`: into an empty upper directory of an overlay, the chain being put below later; see {@link TreeWriter.notes}.
 */
export type ApplyMode = "base" | "merged" | "detached";

export interface ApplyOptions {
  readonly mode: ApplyMode;
  /** For `detached`: whose attributes mark opaque directories. `user` where the overlay is mounted with `userxattr`. */
  readonly overlayXattrs?: OverlayXattrPrefix;
  readonly limits?: ArchiveLimits;
  /** Told of what was left out without failing, such as attributes that the file system cannot hold. */
  readonly onWarning?: (message: string) => void;
}

/** The sink that writes a tree. Synchronous throughout: use it in a worker. */
export class TreeWriter implements TarSink, Disposable {
  readonly #limits: ArchiveLimits;
  readonly #options: ApplyOptions;
  readonly #directories: Directories;
  readonly #below: Below | undefined;
  readonly #detached: DetachedUpper | undefined;
  readonly #directoryTimes: { readonly name: string; readonly path: EntryPath; readonly entry: TarEntry }[] = [];
  /** The file being written. */
  #file: { readonly fd: number; readonly entry: TarEntry } | undefined;
  #blocks = 0;
  #inodes = 0;
  /** For errors. */
  #current = "";
  /** Kept directories may mean what is gone. */
  #stale = false;

  /** `rootFd` is an open directory and stays the caller's. */
  constructor(rootFd: number, options: ApplyOptions) {
    this.#limits = options.limits ?? defaultArchiveLimits;
    this.#options = options;
    if (options.mode === "detached") this.#detached = new DetachedUpper(rootFd, options.overlayXattrs ?? "trusted");
    this.#below = options.mode === "merged" ? new MergedView() : this.#detached;
    this.#directories = new Directories(rootFd, this.#below);
  }

  /** What was written, in blocks of 4 KiB; what a later entry replaced counts as well. */
  get usage(): { readonly sizeBytes: number; readonly inodes: number } {
    return { sizeBytes: this.#blocks * BLOCK_BYTES, inodes: this.#inodes };
  }

  /** What a detached layer leaves to be done when it is put on its chain; undefined in the other modes. */
  notes(): DetachedNotes | undefined {
    return this.#detached?.notes();
  }

  entry(entry: TarEntry): void {
    this.#current = entry.name;
    this.#explained(() => this.#apply(entry));
  }

  data(chunk: Buffer, offset: number): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#blocks += Math.ceil(chunk.length / BLOCK_BYTES);
    this.#explained(() => {
      for (let done = 0; done < chunk.length;) {
        done += writeSync(file.fd, chunk, done, chunk.length - done, offset + done);
      }
    });
  }

  endEntry(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    this.#explained(() => {
      try {
        if (file.entry.sparse !== undefined) ftruncateSync(file.fd, file.entry.sizeBytes);
        this.#finish(file.fd, file.entry);
        setTimes(file.fd, file.entry.accessed ?? file.entry.modified, file.entry.modified);
      } finally {
        closeSync(file.fd);
      }
    });
  }

  /** Sets the times of directories; call it once, after the last entry. */
  finish(): void {
    for (const { name, path, entry } of this.#directoryTimes) {
      this.#current = name;
      this.#explained(() => {
        const parent = this.#directories.find(path.directory);
        if (parent === undefined || statAt(parent, pathArg(path.base))?.type !== "directory") return;
        setTimesAt(parent, pathArg(path.base), entry.accessed ?? entry.modified, entry.modified);
      });
    }
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
    this.#directories[Symbol.dispose]();
  }

  #apply(entry: TarEntry): void {
    const path = resolveName(entry.name, this.#limits);
    // The root belongs to the snapshotter; containerd leaves what archives say of it out as well.
    if (path === undefined || isMetaPath(path)) return;
    if (isWhiteoutName(path.base)) {
      applyWhiteout(path, this.#directories, this.#below);
      return;
    }
    const parent = this.#directories.ensure(path.directory);
    const name = pathArg(path.base);
    switch (entry.type) {
      case "file":
        this.#file = { fd: this.#create(parent, path.base), entry };
        break;
      case "directory":
        this.#directory(parent, path, entry);
        break;
      case "symlink":
        checkTarget(entry);
        this.#replacing(parent, path.base, () => symlinkAt(pathArg(entry.linkName), parent, name));
        this.#finishAt(parent, path.base, entry);
        break;
      case "hardlink":
        if (this.#hardLink(parent, path, entry)) break;
        return;
      case "character":
      case "block":
      case "fifo":
        this.#device(parent, path.base, entry, DEVICE_TYPES[entry.type]);
        break;
    }
    if (entry.type !== "hardlink") this.#inodes += 1;
    if (entry.type === "directory") this.#blocks += 1;
    this.#below?.wrote(this.#directories.canonical(parent), path.base, entry.type === "directory");
  }

  #create(parent: number, base: string): number {
    let fd = -1;
    this.#replacing(parent, base, () => (fd = openAt(parent, pathArg(base), O_WRONLY | O_CREAT | O_EXCL, 0o600)));
    return fd;
  }

  #directory(parent: number, path: EntryPath, entry: TarEntry): void {
    const name = pathArg(path.base);
    let replaced = false;
    if (!mkdirAt(parent, name, 0o700) && statAt(parent, name)?.type !== "directory") {
      this.#remove(parent, path.base);
      mkdirAt(parent, name, 0o700);
      replaced = true;
    }
    const fd = openAt(parent, name, O_RDONLY | O_DIRECTORY);
    this.#directories.keep(path.directory === "" ? path.base : `${path.directory}/${path.base}`, fd);
    if (replaced) this.#below?.replacedByDirectory(fd, this.#directories.canonical(parent), path.base);
    this.#finish(fd, entry);
    this.#directoryTimes.push({ name: entry.name, path, entry });
  }

  /** Owner, mode and attributes are those of the target: tar writes them with it, and setting them again drops
   *  capabilities and setuid bits. False if the link was only noted. */
  #hardLink(parent: number, path: EntryPath, entry: TarEntry): boolean {
    const target = resolveName(entry.linkName || "/", this.#limits);
    const from = target && this.#directories.find(target.directory);
    const found = target && from !== undefined ? statAt(from, pathArg(target.base)) : undefined;
    const there = statAt(parent, pathArg(path.base));
    if (target !== undefined && this.#isElsewhere(from, target.base, found)) {
      if (there !== undefined) this.#remove(parent, path.base);
      const { directory, base } = target;
      const full = directory === "" ? base : `${directory}/${base}`;
      this.#detached?.missingLink(parent, this.#directories.canonical(parent), path.base, full);
      return false;
    }
    if (this.#detached && target && from !== undefined) {
      if (this.#detached.linkToInvented(this.#directories.canonical(from), target.base)) return false;
    }
    if (target === undefined || from === undefined || found === undefined || !isLinkable(found)) {
      const why = found === undefined || isWhiteout(found) ? "does not exist in this image" : "is a directory";
      throw invalidArchive(`entry ${showName(entry.name)}: its link target ${showName(entry.linkName)} ${why}`);
    }
    if (there !== undefined && there.inode === found.inode && there.deviceMinor === found.deviceMinor) return true;
    // Keeping the target's directory open over the removal is safe: a removed target makes linkat fail.
    this.#replacing(parent, path.base, () => linkAt(from, pathArg(target.base), parent, pathArg(path.base)), there);
    return true;
  }

  /** May a link's target be in a layer below a detached one? */
  #isElsewhere(from: number | undefined, base: string, found: FileInfo | undefined): boolean {
    if (this.#detached === undefined) return false;
    if (found === undefined || from === undefined) return true;
    return isWhiteout(found) && this.#detached.isMissing(this.#directories.canonical(from), base);
  }

  #device(parent: number, base: string, entry: TarEntry, typeBits: number): void {
    const { deviceMajor: major, deviceMinor: minor } = entry;
    if (entry.type === "character" && major === 0 && minor === 0) {
      throw invalidArchive(`entry ${showName(entry.name)}: device 0:0 would hide a file of a layer below`);
    }
    this.#replacing(parent, base, () => mknodAt(parent, pathArg(base), typeBits | 0o600, major, minor));
    this.#finishAt(parent, base, entry);
  }

  /** Makes an entry where its name is free, else after removing what has it. */
  #replacing(parent: number, base: string, make: () => unknown, known?: unknown): void {
    if (known === undefined) {
      try {
        make();
        return;
      } catch (error) {
        if (!hasErrno(error, "EEXIST")) throw error;
      }
    }
    this.#remove(parent, base);
    make();
  }

  #remove(parent: number, base: string): void {
    const type = statAt(parent, pathArg(base))?.type;
    removeTree(parent, base);
    this.#below?.removed(this.#directories.canonical(parent), base);
    // Not forgotten at once: this step still uses `parent`, which is a kept descriptor.
    if (type === "directory" || type === "symlink") this.#stale = true;
  }

  /** Owner, mode and attributes of an open file or directory; owner first, for a change of it clears the others. */
  #finish(fd: number, entry: TarEntry): void {
    fchownSync(fd, entry.uid, entry.gid);
    fchmodSync(fd, entry.mode);
    this.#attributes(fd, entry);
  }

  /** The same for an entry that cannot be opened, and its times. */
  #finishAt(parent: number, base: string, entry: TarEntry): void {
    const name = pathArg(base);
    chownAt(parent, name, entry.uid, entry.gid);
    if (entry.type !== "symlink") chmodAt(parent, name, entry.mode);
    this.#attributes(pathAt(parent, name), entry);
    setTimesAt(parent, name, entry.accessed ?? entry.modified, entry.modified);
  }

  #attributes(target: XattrTarget, entry: TarEntry): void {
    for (const [name, value] of entry.xattrs) {
      // The overlay file system keeps its own state in these: an image must not forge it.
      if (name.startsWith("trusted.") || name.startsWith("user.overlay.")) {
        this.#options.onWarning?.(`entry ${showName(entry.name)}: attribute ${showName(name)} is left out`);
        continue;
      }
      try {
        setXattr(target, name, value);
      } catch (error) {
        const special = entry.type !== "file" && entry.type !== "directory" && name.startsWith("user.");
        if (!hasErrno(error, "EOPNOTSUPP") && !(special && hasErrno(error, "EPERM"))) throw error;
        this.#options.onWarning?.(`entry ${showName(entry.name)}: attribute ${showName(name)} is not supported here`);
      }
    }
  }

  /** Runs a step; what the kernel refuses gets the entry's name and, for a full disk, its own reason. */
  #explained(step: () => void): void {
    try {
      step();
    } catch (raw) {
      throw explain(fromNodeError(raw, "write", showName(this.#current)), this.#current);
    } finally {
      if (this.#stale) this.#directories.forget();
      this.#stale = false;
    }
  }
}

function isLinkable(found: FileInfo): boolean {
  return found.type !== "directory" && !isWhiteout(found);
}

function checkTarget(entry: TarEntry): void {
  const { linkName } = entry;
  if (linkName !== "" && linkName.length <= MAX_LINK_TARGET && !linkName.includes("\0")) return;
  throw invalidArchive(`entry ${showName(entry.name)}: its link target is empty, too long or contains a NUL byte`);
}

function explain(error: unknown, name: string): unknown {
  if (!(error instanceof StatusError) || error.reason === "LAYER_INVALID") return error;
  if (DISK_FULL.has(error.reason)) {
    return new StatusError("RESOURCE_EXHAUSTED", `disk full while writing entry ${showName(name)}`, {
      reason: "DISK_FULL",
      cause: error,
    });
  }
  if (ARCHIVE_AT_FAULT.has(error.reason)) {
    return new StatusError("INVALID_ARGUMENT", `entry ${showName(name)}: cannot be written: ${error.message}`, {
      reason: "LAYER_INVALID",
      cause: error,
    });
  }
  return new StatusError(error.code, `entry ${showName(name)}: ${error.message}`, {
    reason: error.reason,
    cause: error,
  });
}
