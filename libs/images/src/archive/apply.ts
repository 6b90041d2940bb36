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
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, ftruncateSync, writeSync } from "node:fs";
import { StatusError } from "@berth/base";
import {
  chmodAt,
  chownAt,
  hasErrno,
  isWhiteout,
  linkAt,
  mkdirAt,
  mknodAt,
  openAt,
  pathAt,
  setTimes,
  setTimesAt,
  statAt,
  symlinkAt,
  tryCreateAt,
  tryLinkAt,
  type FileInfo,
  type OverlayXattrPrefix,
} from "@berth/linux";
import { clearAttributes, setAttributes } from "./attributes.ts";
import { DetachedUpper } from "./detached.ts";
import type { DetachedNotes } from "./detached-notes.ts";
import { Directories } from "./directories.ts";
import { defaultArchiveLimits, invalidArchive, pathArg, showName, type ArchiveLimits, type TarEntry } from "./entry.ts";
import { resolveName, type EntryPath } from "./names.ts";
import { explain } from "./failures.ts";
import type { TarSink } from "./reader.ts";
import { removeTree } from "./remove-tree.ts";
import { applyWhiteout, isMetaPath, isWhiteoutName, MergedView } from "./whiteouts.ts";
import type { Below, DirectoryTimes } from "./below.ts";

const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_WRONLY, S_IFREG } = constants;
const DEVICE_TYPES = { character: 0o020000, block: 0o060000, fifo: 0o010000 } as const;
const BLOCK_BYTES = 4096;
const MAX_LINK_TARGET = 4095;

/**
 * `base`: nothing is below, so that whiteouts say nothing. `merged`: over the mounted chain; whiteouts are deletions there.
 * `detached`: into an empty upper directory of an overlay, the chain being put below later; see {@link TreeWriter.notes}.
 * `live`: into a tree in use; there are no whiteouts, and nothing takes the place of a folder, nor a folder that of anything.
 */
export type ApplyMode = "base" | "merged" | "detached" | "live";

/** Device nodes of archives: made as they are (as containerd does), a reason to refuse the layer, or left out. */
export type DevicePolicy = "allow" | "refuse" | "skip";

export interface ApplyOptions {
  readonly mode: ApplyMode;
  /** For `detached`: whose attributes mark opaque directories. `user` where the overlay is mounted with `userxattr`. */
  readonly overlayXattrs?: OverlayXattrPrefix;
  readonly limits?: ArchiveLimits;
  /** `allow` by default. FIFOs are no devices. */
  readonly devices?: DevicePolicy;
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
  readonly #directoryTimes: {
    readonly name: string;
    readonly path: EntryPath;
    readonly inode: bigint;
    readonly times: DirectoryTimes;
  }[] = [];
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
    if (options.mode === "detached")
      this.#detached = new DetachedUpper(rootFd, options.overlayXattrs ?? "trusted", this.#limits);
    this.#below = options.mode === "merged" ? new MergedView(this.#limits) : this.#detached;
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
    try {
      this.#apply(entry);
    } catch (error) {
      throw explain(error, this.#current);
    }
    if (this.#stale) this.#directories.forget();
    this.#stale = false;
  }

  data(chunk: Buffer, offset: number): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#blocks += Math.ceil(chunk.length / BLOCK_BYTES);
    try {
      for (let done = 0; done < chunk.length;) {
        done += writeSync(file.fd, chunk, done, chunk.length - done, offset + done);
      }
    } catch (error) {
      throw explain(error, this.#current);
    }
  }

  endEntry(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const { fd, entry } = file;
    try {
      if (entry.sparse !== undefined) ftruncateSync(fd, entry.sizeBytes);
      if (isSpecial(entry.mode)) setOwnership(fd, entry);
      if (entry.xattrs.size > 0) setAttributes(fd, entry, this.#options.onWarning);
      setTimes(fd, entry.accessed ?? entry.modified, entry.modified);
    } catch (error) {
      throw explain(error, this.#current);
    } finally {
      closeSync(fd);
    }
  }

  /** Sets the times of directories; call it once, after the last entry. */
  finish(): void {
    try {
      for (const { path, times } of this.#below?.passed?.() ?? []) this.#setTimes(path, times);
      for (const { name, path, inode, times } of this.#directoryTimes) {
        this.#current = name;
        this.#setTimes(path, times, inode);
      }
    } catch (error) {
      throw explain(error, this.#current);
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
    const layer = this.#options.mode !== "live";
    if (path === undefined || (layer && isMetaPath(path))) return;
    if (layer && isWhiteoutName(path.base)) {
      applyWhiteout(path, this.#directories, this.#below);
      return;
    }
    const parent = this.#directories.ensure(path.directory);
    switch (entry.type) {
      case "file":
        this.#createFile(parent, path.base, entry);
        break;
      case "directory":
        this.#directory(parent, path, entry);
        break;
      case "symlink":
        this.#symlink(parent, path.base, entry);
        break;
      case "hardlink":
        if (this.#hardLink(parent, path, entry)) break;
        return;
      case "character":
      case "block":
      case "fifo":
        if (this.#device(parent, path.base, entry, DEVICE_TYPES[entry.type])) break;
        return;
    }
    if (entry.type !== "hardlink") this.#inodes += 1;
    if (entry.type === "directory") this.#blocks += 1;
    this.#below?.wrote(this.#directories.canonical(parent), path.base, entry.type === "directory");
  }

  #createFile(parent: number, base: string, entry: TarEntry): void {
    const name = pathArg(base);
    const made = this.#directories.newFiles(parent);
    // setuid and its like come last: a half-written program must not have them, and a change of owner clears them.
    const mode = isSpecial(entry.mode) ? 0o600 : entry.mode;
    if (entry.sizeBytes === 0 && entry.xattrs.size === 0 && mode === entry.mode && made.makes(entry)) {
      this.#replacing(parent, base, () => mknodAt(parent, name, S_IFREG | mode));
      setTimesAt(parent, name, entry.accessed ?? entry.modified, entry.modified);
      return;
    }
    let fd = tryCreateAt(parent, name, O_WRONLY, mode);
    if (fd === undefined) {
      this.#remove(parent, base);
      fd = openAt(parent, name, O_WRONLY | O_CREAT | O_EXCL, mode);
    }
    this.#file = { fd, entry };
    if (mode === entry.mode) made.settle(fd, entry);
  }

  #directory(parent: number, path: EntryPath, entry: TarEntry): void {
    const name = pathArg(path.base);
    let [merges, replaced] = [false, false];
    if (!mkdirAt(parent, name, 0o700)) {
      merges = statAt(parent, name)?.type === "directory";
      if (!merges && this.#options.mode === "live") throw this.#occupied("no folder");
      if (!merges) {
        this.#remove(parent, path.base);
        mkdirAt(parent, name, 0o700);
        replaced = true;
      }
    }
    const fd = openAt(parent, name, O_RDONLY | O_DIRECTORY);
    this.#directories.keep(path.directory === "" ? path.base : `${path.directory}/${path.base}`, fd);
    if (replaced) this.#below?.replacedByDirectory(fd, this.#directories.canonical(parent), path.base);
    if (merges) {
      // Files made in it so far may have come out otherwise than those to come.
      this.#directories.forgetNewFiles();
      if (this.#options.mode === "merged") clearAttributes(fd);
    }
    setOwnership(fd, entry);
    if (entry.xattrs.size > 0) setAttributes(fd, entry, this.#options.onWarning);
    const times = { accessed: entry.accessed ?? entry.modified, modified: entry.modified };
    this.#directoryTimes.push({ name: entry.name, path, inode: fstatSync(fd, { bigint: true }).ino, times });
  }

  #symlink(parent: number, base: string, entry: TarEntry): void {
    checkTarget(entry);
    const name = pathArg(base);
    this.#replacing(parent, base, () => symlinkAt(pathArg(entry.linkName), parent, name));
    if (!this.#directories.newFiles(parent).owns(entry)) chownAt(parent, name, entry.uid, entry.gid);
    if (entry.xattrs.size > 0) setAttributes(pathAt(parent, name), entry, this.#options.onWarning);
    setTimesAt(parent, name, entry.accessed ?? entry.modified, entry.modified);
  }

  /** Owner, mode and attributes are those of the target: tar writes them with it, and setting them again drops
   *  capabilities and setuid bits. False if the link was only noted. */
  #hardLink(parent: number, path: EntryPath, entry: TarEntry): boolean {
    const target = resolveName(entry.linkName || "/", this.#limits);
    const from = target && this.#directories.find(target.directory);
    if (target !== undefined && from !== undefined && this.#detached === undefined) {
      if (tryLinkAt(from, pathArg(target.base), parent, pathArg(path.base))) return true;
    }
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

  /** False if the device was left out. */
  #device(parent: number, base: string, entry: TarEntry, typeBits: number): boolean {
    const { deviceMajor: major, deviceMinor: minor } = entry;
    const name = pathArg(base);
    if (entry.type === "character" && major === 0 && minor === 0) {
      throw invalidArchive(`entry ${showName(entry.name)}: device 0:0 would hide a file of a layer below`);
    }
    if (entry.type !== "fifo" && !this.#mayHaveDevice(entry)) return false;
    this.#replacing(parent, base, () => mknodAt(parent, name, typeBits | 0o600, major, minor));
    chownAt(parent, name, entry.uid, entry.gid);
    chmodAt(parent, name, entry.mode);
    if (entry.xattrs.size > 0) setAttributes(pathAt(parent, name), entry, this.#options.onWarning);
    setTimesAt(parent, name, entry.accessed ?? entry.modified, entry.modified);
    return true;
  }

  #mayHaveDevice(entry: TarEntry): boolean {
    const policy = this.#options.devices ?? "allow";
    if (policy === "allow") return true;
    const what = `entry ${showName(entry.name)}: ${entry.type} device ${entry.deviceMajor}:${entry.deviceMinor}`;
    if (policy === "refuse") throw invalidArchive(`${what} is not allowed here; images may not bring device nodes`);
    this.#options.onWarning?.(`${what} is left out`);
    return false;
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
    if (type === "directory" && this.#options.mode === "live") throw this.#occupied("a folder");
    removeTree(parent, base);
    if (type === "directory") this.#below?.removed(this.#directories.canonical(parent), base);
    // Not forgotten at once: this step still uses `parent`, which is a kept descriptor.
    if (type === "directory" || type === "symlink") this.#stale = true;
  }

  #occupied(by: string): StatusError {
    const text = `there is ${by} of this name already, which is not replaced; remove it first`;
    return new StatusError("ALREADY_EXISTS", text, { reason: "PATH_OCCUPIED" });
  }

  /** @param inode of the directory that is meant; another one may stand there by now */
  #setTimes(path: EntryPath, times: DirectoryTimes, inode?: bigint): void {
    const parent = this.#directories.findIfAny(path.directory);
    const found = parent === undefined ? undefined : statAt(parent, pathArg(path.base));
    if (parent === undefined || found?.type !== "directory") return;
    if (inode === undefined || inode === found.inode) {
      setTimesAt(parent, pathArg(path.base), times.accessed, times.modified);
    }
  }
}

/** Owner first, for a change of it clears setuid and its like. */
function setOwnership(fd: number, { uid, gid, mode }: TarEntry): void {
  fchownSync(fd, uid, gid);
  fchmodSync(fd, mode);
}

function isSpecial(mode: number): boolean {
  return (mode & 0o7000) !== 0;
}

function isLinkable(found: FileInfo): boolean {
  return found.type !== "directory" && !isWhiteout(found);
}

function checkTarget(entry: TarEntry): void {
  const { linkName } = entry;
  if (linkName !== "" && linkName.length <= MAX_LINK_TARGET && !linkName.includes("\0")) return;
  throw invalidArchive(`entry ${showName(entry.name)}: its link target is empty, too long or contains a NUL byte`);
}
