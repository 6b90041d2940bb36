/**
 * Project quotas of xfs, ext4 and f2fs: everything below a directory counts towards one number, which can be limited.
 *
 * The directory gets the project's id and passes it on to what is made in it; the limit is the file system's, by
 * quotactl_fd(2) (Linux 5.14), whose generic commands xfs understands too. Needs a mount with `prjquota` (`pquota`) and a
 * kernel with quotas (CONFIG_QUOTA and, for xfs, CONFIG_XFS_QUOTA).
 */
import { closeSync } from "node:fs";
import { kernelError, errnoName } from "./errno.ts";
import { lastErrno, libc, show, SYS, syscalls } from "./libc.ts";
import { openDirectory } from "./paths.ts";

// linux/fs.h: FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, struct fsxattr (28 bytes).
const FSGETXATTR = 0x801c581f;
const FSSETXATTR = 0x401c5820;
const FSXATTR_BYTES = 28;
const XFLAG_PROJINHERIT = 0x200;

// linux/quota.h: QCMD(Q_GETQUOTA, PRJQUOTA), struct if_dqblk (72 bytes with its padding).
const PRJQUOTA = 2;
const GETQUOTA = command(0x800007);
const SETQUOTA = command(0x800008);
const DQBLK_BYTES = 72;
const QIF_BLIMITS = 1;
/** Limits are in blocks of 1 KiB, whatever the file system's block size is. */
const QUOTA_BLOCK_BYTES = 1024;

function command(number: number): number {
  return ((number << 8) | PRJQUOTA) >>> 0;
}

/** One call into the kernel, as data: what {@link limitProject} does, for a test to look at. */
export interface QuotaCall {
  readonly call: "ioctl" | "quotactl_fd";
  readonly request: number;
  /** quotactl_fd only. */
  readonly projectId?: number;
  readonly argument: Buffer;
}

/** Changes what FSGETXATTR gave to what FSSETXATTR is to set. */
export function joinProjectCall(current: Buffer, projectId: number): QuotaCall {
  const argument = Buffer.from(current);
  argument.writeUInt32LE((argument.readUInt32LE(0) | XFLAG_PROJINHERIT) >>> 0, 0);
  argument.writeUInt32LE(projectId, 12);
  return { call: "ioctl", request: FSSETXATTR, argument };
}

/** `maxBytes` 0 lifts the limit. Rounded up to whole KiB. */
export function limitProjectCall(projectId: number, maxBytes: number): QuotaCall {
  const argument = Buffer.alloc(DQBLK_BYTES);
  const blocks = BigInt(Math.ceil(maxBytes / QUOTA_BLOCK_BYTES));
  argument.writeBigUInt64LE(blocks, 0);
  argument.writeBigUInt64LE(blocks, 8);
  argument.writeUInt32LE(QIF_BLIMITS, 64);
  return { call: "quotactl_fd", request: SETQUOTA, projectId, argument };
}

/** Why directories below this one cannot be bounded; undefined when they can. */
export function projectQuotaProblem(directory: string): string | undefined {
  const fd = openDirectory(directory);
  try {
    if (libc.ioctlPointer(fd, FSGETXATTR, Buffer.alloc(FSXATTR_BYTES)) < 0) return "the file system has no projects";
    const asked = syscalls.quotactlFd(SYS.quotactlFd, fd, GETQUOTA, 0, Buffer.alloc(DQBLK_BYTES));
    if (asked >= 0) return undefined;
    const errno = errnoName(lastErrno());
    if (errno === "ENOSYS") return "the kernel has no quotas for it (needs quotactl_fd, Linux 5.14, and CONFIG_QUOTA)";
    return `the file system is not mounted with prjquota (${errno})`;
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes an empty directory a project of its own and bounds it. Files that are renamed into it from elsewhere on the file
 * system are refused with EXDEV from then on, as the kernel wants it.
 */
export function limitProject(directory: string, projectId: number, maxBytes: number): void {
  const fd = openDirectory(directory);
  try {
    const current = Buffer.alloc(FSXATTR_BYTES);
    if (libc.ioctlPointer(fd, FSGETXATTR, current) < 0) throw kernelError("FSGETXATTR", show(directory), lastErrno());
    run(fd, joinProjectCall(current, projectId), directory);
    run(fd, limitProjectCall(projectId, maxBytes), directory);
  } finally {
    closeSync(fd);
  }
}

/** What the project that the directory is takes on disk, as the file system counts it; undefined where it is none. */
export function projectBytes(directory: string): number | undefined {
  const fd = openDirectory(directory);
  try {
    const current = Buffer.alloc(FSXATTR_BYTES);
    if (libc.ioctlPointer(fd, FSGETXATTR, current) < 0) return undefined;
    const projectId = current.readUInt32LE(12);
    if (projectId === 0) return undefined;
    const reply = Buffer.alloc(DQBLK_BYTES);
    run(fd, { call: "quotactl_fd", request: GETQUOTA, projectId, argument: reply }, directory);
    return usedBytesOf(reply);
  } finally {
    closeSync(fd);
  }
}

/** dqb_curspace of what Q_GETQUOTA gave: in bytes, other than the limits. */
export function usedBytesOf(reply: Buffer): number {
  return Number(reply.readBigUInt64LE(16));
}

/** Lifts the limit of the project that the directory is, if it is one; its files keep the id. */
export function unlimitProject(directory: string): void {
  const fd = openDirectory(directory);
  try {
    const current = Buffer.alloc(FSXATTR_BYTES);
    if (libc.ioctlPointer(fd, FSGETXATTR, current) < 0) return;
    const projectId = current.readUInt32LE(12);
    if (projectId !== 0) run(fd, limitProjectCall(projectId, 0), directory);
  } finally {
    closeSync(fd);
  }
}

function run(fd: number, { call, request, projectId, argument }: QuotaCall, directory: string): void {
  const result =
    call === "ioctl"
      ? libc.ioctlPointer(fd, request, argument)
      : syscalls.quotactlFd(SYS.quotactlFd, fd, request, projectId ?? 0, argument);
  if (result < 0) throw kernelError(call === "ioctl" ? "FSSETXATTR" : call, show(directory), lastErrno());
}
