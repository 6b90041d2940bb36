/**
 * Subvolumes, snapshots and quota groups of btrfs, by its ioctls (linux/btrfs.h): no program is started.
 *
 * A subvolume is named by its path. All calls are synchronous and short: making and snapshotting write a few blocks of
 * metadata, deleting only unlinks (the kernel frees the extents in the background).
 */
import { closeSync, lstatSync } from "node:fs";
import { basename, dirname } from "node:path";
import { diskInfo } from "./disk.ts";
import { errnoName, fromNodeError, hasErrno, kernelError } from "./errno.ts";
import { lastErrno, libc, show } from "./libc.ts";
import { openDirectory } from "./paths.ts";

// _IOW(0x94, n, size) and friends, the same on x86-64 and arm64.
const SUBVOL_CREATE = 0x5000940e;
const SNAP_DESTROY = 0x5000940f;
const INO_LOOKUP = 0xd0009412;
const SNAP_CREATE_V2 = 0x50009417;
const SUBVOL_GETFLAGS = 0x80089419;
const SUBVOL_SETFLAGS = 0x4008941a;
const TREE_SEARCH = 0xd0009411;
const QGROUP_CREATE = 0x4010942a;
const QGROUP_LIMIT = 0x8030942b;

const FLAG_RDONLY = 2n;
/** The inode of a subvolume's root directory (BTRFS_FIRST_FREE_OBJECTID). */
const ROOT_INODE = 256;
const LIMIT_MAX_EXCLUSIVE = 2n;
const QUOTA_TREE = 8n;
const QGROUP_INFO_KEY = 242;
/** Where in a search's buffer its first item begins: behind the search key and the item's header. */
const FOUND_ITEM = 104 + 32;
/** As a limit: none. */
const NO_LIMIT = 0xffff_ffff_ffff_ffffn;
const NAME_MAX = 255;

/** @throws ALREADY_EXISTS; INVALID_ARGUMENT `ENOTTY` where the file system is no btrfs. */
export function createSubvolume(path: string): void {
  const args = Buffer.alloc(4096);
  nameOf(path).copy(args, 8);
  withDirectory(dirname(path), (fd) => control(fd, SUBVOL_CREATE, args, "btrfs subvolume create", path));
}

/** Makes `target` a writable snapshot of the subvolume `source`. */
export function snapshotSubvolume(source: string, target: string): void {
  const args = Buffer.alloc(4096);
  nameOf(target).copy(args, 56);
  withDirectory(source, (sourceFd) => {
    args.writeBigInt64LE(BigInt(sourceFd), 0);
    withDirectory(dirname(target), (fd) => control(fd, SNAP_CREATE_V2, args, "btrfs subvolume snapshot", target));
  });
}

/**
 * Deletes a subvolume whatever it holds, also a read-only one.
 * @throws FAILED_PRECONDITION `ENOTEMPTY` when there are subvolumes inside.
 */
export function destroySubvolume(path: string): void {
  const args = Buffer.alloc(4096);
  nameOf(path).copy(args, 8);
  const id = withDirectory(path, (fd) => subvolumeId(fd, path));
  withDirectory(dirname(path), (fd) => {
    control(fd, SNAP_DESTROY, args, "btrfs subvolume delete", path);
    forgetQgroup(fd, id);
  });
}

/** Kernels before 6.10 keep the quota group of a subvolume that is gone; while it still counts, this fails. */
function forgetQgroup(fd: number, id: bigint): void {
  const args = Buffer.alloc(16);
  args.writeBigUInt64LE(id, 8);
  libc.ioctlPointer(fd, QGROUP_CREATE, args);
}

/** Is this directory the root of a subvolume? False for what is not there. */
export function isSubvolume(path: string): boolean {
  try {
    return lstatSync(path).ino === ROOT_INODE && diskInfo(path).fsType === "btrfs";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || hasErrno(error, "ENOENT")) return false;
    throw fromNodeError(error, "stat", show(path));
  }
}

export function isSubvolumeReadonly(path: string): boolean {
  const flags = Buffer.alloc(8);
  withDirectory(path, (fd) => control(fd, SUBVOL_GETFLAGS, flags, "btrfs subvolume flags", path));
  return (flags.readBigUInt64LE() & FLAG_RDONLY) !== 0n;
}

export function setSubvolumeReadonly(path: string, readonly: boolean): void {
  const flags = Buffer.alloc(8);
  withDirectory(path, (fd) => {
    control(fd, SUBVOL_GETFLAGS, flags, "btrfs subvolume flags", path);
    const before = flags.readBigUInt64LE();
    flags.writeBigUInt64LE(readonly ? before | FLAG_RDONLY : before & ~FLAG_RDONLY);
    control(fd, SUBVOL_SETFLAGS, flags, "btrfs subvolume flags", path);
  });
}

/** Has an administrator switched on quotas (full or simple) for the file system of this directory? */
export function btrfsQuotaEnabled(directory: string): boolean {
  // A limit that changes nothing: ENOTCONN without quotas.
  return withDirectory(directory, (fd) => libc.ioctlPointer(fd, QGROUP_LIMIT, Buffer.alloc(48)) === 0);
}

/**
 * Bounds what the subvolume has of its own, beside what it shares with the one it was made from; undefined lifts it.
 * Writing past it gives EDQUOT. @throws FAILED_PRECONDITION `ENOTCONN` while quotas are off.
 */
export function limitSubvolume(path: string, maxBytes: number | undefined): void {
  const args = Buffer.alloc(48);
  withDirectory(path, (fd) => {
    args.writeBigUInt64LE(subvolumeId(fd, path), 0);
    args.writeBigUInt64LE(LIMIT_MAX_EXCLUSIVE, 8);
    args.writeBigUInt64LE(maxBytes === undefined ? NO_LIMIT : BigInt(maxBytes), 24);
    control(fd, QGROUP_LIMIT, args, "btrfs qgroup limit", path);
  });
}

/**
 * What the subvolume has of its own, as its quota group counts it; undefined while quotas are off. One system call or two,
 * however large it is; the kernel brings the number up to date with each of its commits (every 30 seconds, or with a sync).
 */
export function subvolumeOwnBytes(path: string): number | undefined {
  return withDirectory(path, (fd) => {
    const args = Buffer.alloc(4096);
    const id = subvolumeId(fd, path);
    // tree_id, objectid, offset, transid (each from, to), type (from, to), nr_items.
    args.writeBigUInt64LE(QUOTA_TREE, 0);
    for (const at of [24, 32]) args.writeBigUInt64LE(id, at);
    args.writeBigUInt64LE(NO_LIMIT, 48);
    for (const at of [56, 60]) args.writeUInt32LE(QGROUP_INFO_KEY, at);
    args.writeUInt32LE(1, 64);
    if (libc.ioctlPointer(fd, TREE_SEARCH, args) < 0) {
      if (errnoName(lastErrno()) === "ENOENT") return undefined;
      throw kernelError("btrfs qgroup usage", show(path), lastErrno());
    }
    // generation, referenced, referenced compressed, exclusive.
    return args.readUInt32LE(64) === 0 ? undefined : Number(args.readBigUInt64LE(FOUND_ITEM + 24));
  });
}

function subvolumeId(fd: number, path: string): bigint {
  const args = Buffer.alloc(4096);
  args.writeBigUInt64LE(BigInt(ROOT_INODE), 8);
  control(fd, INO_LOOKUP, args, "btrfs subvolume id", path);
  return args.readBigUInt64LE(0);
}

function nameOf(path: string): Buffer {
  const name = Buffer.from(basename(path));
  if (name.length > NAME_MAX) throw kernelError("btrfs subvolume", show(path), 36);
  return name;
}

function withDirectory<T>(path: string, body: (fd: number) => T): T {
  const fd = openDirectory(path);
  try {
    return body(fd);
  } finally {
    closeSync(fd);
  }
}

function control(fd: number, request: number, args: Buffer, call: string, path: string): void {
  if (libc.ioctlPointer(fd, request, args) < 0) throw kernelError(call, show(path), lastErrno());
}
