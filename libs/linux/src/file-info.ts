/** What a file is (statx): relative to a directory, by descriptor or by path; the name itself is never followed. */
import { kernelError } from "./errno.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, cPath, lastErrno, libc, show, type PathArg } from "./libc.ts";
import type { Timestamp } from "./paths.ts";

export type FileType = "file" | "directory" | "symlink" | "character" | "block" | "fifo" | "socket" | "unknown";

export interface FileInfo {
  readonly type: FileType;
  /** Permission bits with setuid, setgid and sticky; without the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Space taken on disk. */
  readonly allocatedBytes: number;
  readonly links: number;
  readonly inode: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** For device files: which device they stand for. */
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly accessed: Timestamp;
  readonly modified: Timestamp;
}

const ENOENT = 2;
const STATX_BASIC_STATS = 0x7ff;
const buffer = Buffer.alloc(256);

/** An entry of a directory, links not followed; undefined when there is none. `name` may be a relative path. */
export function statAt(dirFd: number, name: PathArg): FileInfo | undefined {
  if (libc.statx(dirFd, cPath(name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, buffer) === 0) return decode();
  const errno = lastErrno();
  if (errno === ENOENT) return undefined;
  throw kernelError("statx", show(name), errno);
}

/** The file at a path, links in the last component not followed; undefined when there is none. */
export function statPath(path: PathArg): FileInfo | undefined {
  return statAt(AT_FDCWD, path);
}

/** An open file; O_PATH descriptors too. */
export function statFd(fd: number): FileInfo {
  if (libc.statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, buffer) === 0) return decode();
  throw kernelError("statx", `fd ${fd}`, lastErrno());
}

const TYPES: Readonly<Record<number, FileType>> = {
  0o14: "socket",
  0o12: "symlink",
  0o10: "file",
  0o06: "block",
  0o04: "directory",
  0o02: "character",
  0o01: "fifo",
};

// Offsets of struct statx, the same on every architecture (linux/stat.h).
function decode(): FileInfo {
  const mode = buffer.readUInt16LE(28);
  return {
    type: TYPES[mode >> 12] ?? "unknown",
    mode: mode & 0o7777,
    links: buffer.readUInt32LE(16),
    uid: buffer.readUInt32LE(20),
    gid: buffer.readUInt32LE(24),
    inode: buffer.readBigUInt64LE(32),
    sizeBytes: Number(buffer.readBigUInt64LE(40)),
    allocatedBytes: Number(buffer.readBigUInt64LE(48)) * 512,
    accessed: { seconds: Number(buffer.readBigInt64LE(64)), nanoseconds: buffer.readUInt32LE(72) },
    modified: { seconds: Number(buffer.readBigInt64LE(112)), nanoseconds: buffer.readUInt32LE(120) },
    rdevMajor: buffer.readUInt32LE(128),
    rdevMinor: buffer.readUInt32LE(132),
    deviceMajor: buffer.readUInt32LE(136),
    deviceMinor: buffer.readUInt32LE(140),
  };
}
