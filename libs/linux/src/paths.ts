/**
 * Working beneath a directory without ever leaving it.
 *
 * The safe pattern, for whoever applies a hostile archive (A5):
 *  1. Open the root once: `openDirectory(root)`.
 *  2. Resolve the *parent* of an entry with {@link openBeneath} (openat2): in the kernel, atomically, with `..`, absolute
 *     links and magic links kept inside or refused. Keep the parent's fd while entries of the same directory follow.
 *  3. Create or change the entry by a **single-component name** relative to that fd: `mkdirAt`, `symlinkAt`, `linkAt`,
 *     `unlinkAt`, `renameAt`, `mknodAt`, `chownAt`, `chmodAt`, `setTimesAt`, `statAt`, `readlinkAt`, `openAt`. None of them
 *     follows a symbolic link in that last component, and each refuses a name with a slash, `.`, `..` or an empty one, so a
 *     mistake in step 2 cannot become an escape.
 *
 * Presence is data, not an exception: `mkdirAt` and `unlinkAt` give false, `statAt` and `tryOpenBeneath` undefined, where
 * the entry was there already or is not there. All other failures throw a StatusError whose reason is the errno's name.
 *
 * Calls are synchronous (1-5 µs): use them in a worker for bulk work. Paths are strings or raw bytes. Descriptors are plain
 * numbers, close-on-exec, and owned by the caller (`fs.closeSync`). Needs Linux 5.6.
 */
import { constants } from "node:fs";
import { hasErrno, kernelError } from "./errno.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  check,
  cPath,
  lastErrno,
  libc,
  show,
  SYS,
  syscalls,
  type PathArg,
} from "./libc.ts";

export const O_PATH = 0x200000;
export const O_CLOEXEC = 0x80000;
/** An unnamed file of a directory, to be linked into it later. Includes O_DIRECTORY. */
export const O_TMPFILE = 0x400000 | constants.O_DIRECTORY;

/** How openat2 resolves (linux/openat2.h). */
export const Resolve = {
  noXdev: 0x01,
  noMagicLinks: 0x02,
  noSymlinks: 0x04,
  /** Anything that would leave the directory fails with EXDEV. */
  beneath: 0x08,
  /** The directory is `/`: absolute links and `..` stay inside it, as after a chroot. */
  inRoot: 0x10,
} as const;

const EPERM = 1;
const EAGAIN = 11;
const EEXIST = 17;
const ENOENT = 2;
const ENOTDIR = 20;
const EINVAL = 22;
const ENOSYS = 38;

// open_how { u64 flags, mode, resolve }; one per thread, as the module is.
const how = new BigUint64Array(3);
const howBytes = new Uint8Array(how.buffer);

/**
 * Opens `path` beneath `rootFd`. By default the root acts as `/` (`Resolve.inRoot`) and magic links are refused, always.
 * `mode` counts only with O_CREAT or O_TMPFILE.
 * @throws INVALID_ARGUMENT `EXDEV` for an escape under `Resolve.beneath`; FAILED_PRECONDITION `ELOOP` for a refused link;
 * NOT_FOUND; UNIMPLEMENTED `ENOSYS` before Linux 5.6.
 */
export function openBeneath(
  rootFd: number,
  path: PathArg,
  flags: number,
  mode = 0,
  resolve: number = Resolve.inRoot,
): number {
  const fd = openat2(rootFd, path, flags, mode, resolve);
  if (fd < 0) throw kernelError("openat2", show(path), -fd);
  return fd;
}

/** The same; undefined where the path or one of its directories does not exist. */
export function tryOpenBeneath(
  rootFd: number,
  path: PathArg,
  flags: number,
  mode = 0,
  resolve: number = Resolve.inRoot,
): number | undefined {
  const fd = openat2(rootFd, path, flags, mode, resolve);
  if (fd >= 0) return fd;
  if (fd === -ENOENT || fd === -ENOTDIR) return undefined;
  throw kernelError("openat2", show(path), -fd);
}

function openat2(rootFd: number, path: PathArg, flags: number, mode: number, resolve: number): number {
  const creates = (flags & constants.O_CREAT) !== 0 || (flags & O_TMPFILE) === O_TMPFILE;
  how[0] = BigInt(flags | O_CLOEXEC);
  how[1] = creates ? BigInt(mode) : 0n;
  how[2] = BigInt(resolve | Resolve.noMagicLinks);
  const name = cPath(path);
  for (let attempt = 0; ; attempt += 1) {
    const fd = syscalls.openat2(SYS.openat2, rootFd, name, howBytes, 24);
    if (fd >= 0) return fd;
    const errno = lastErrno();
    // EAGAIN: a rename raced with a `..` and the kernel could not prove that it stayed inside. openat2(2) says: try again.
    if (errno !== EAGAIN || attempt >= 64) return -errno;
  }
}

/** Opens a directory by an ordinary path, for use as a root. The last component may not be a symbolic link. */
export function openDirectory(path: PathArg): number {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_CLOEXEC;
  return check(libc.openat(AT_FDCWD, cPath(path), flags, 0), "open", path);
}

/** Opens an entry of a directory; never follows a link in the name. `flags` may hold O_CREAT, O_EXCL, O_PATH… */
export function openAt(dirFd: number, name: PathArg, flags: number, mode = 0): number {
  const all = flags | constants.O_NOFOLLOW | O_CLOEXEC;
  return check(libc.openat(dirFd, component(name), all, mode), "openat", name);
}

/** Makes a file and opens it by `flags`; undefined when the name is taken, by whatever. The mode is subject to the umask. */
export function tryCreateAt(dirFd: number, name: PathArg, flags: number, mode: number): number | undefined {
  const all = flags | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | O_CLOEXEC;
  const fd = libc.openat(dirFd, component(name), all, mode);
  if (fd >= 0) return fd;
  const errno = lastErrno();
  if (errno === EEXIST) return undefined;
  throw kernelError("openat", show(name), errno);
}

/** Makes a directory; false when the name is taken, by whatever. The mode is subject to the umask. */
export function mkdirAt(dirFd: number, name: PathArg, mode: number): boolean {
  if (libc.mkdirat(dirFd, component(name), mode) === 0) return true;
  const errno = lastErrno();
  if (errno === EEXIST) return false;
  throw kernelError("mkdirat", show(name), errno);
}

/** Makes a symbolic link; its target is stored as given and never looked at. */
export function symlinkAt(target: PathArg, dirFd: number, name: PathArg): void {
  check(libc.symlinkat(cPath(target), dirFd, component(name)), "symlinkat", name);
}

/** Makes a hard link; a symbolic link as source is itself linked, not followed. */
export function linkAt(fromDirFd: number, fromName: PathArg, toDirFd: number, toName: PathArg): void {
  check(libc.linkat(fromDirFd, component(fromName), toDirFd, component(toName), 0), "linkat", toName);
}

/** The same; false where it cannot be made: the target is missing or a directory, or the name is taken. */
export function tryLinkAt(fromDirFd: number, fromName: PathArg, toDirFd: number, toName: PathArg): boolean {
  if (libc.linkat(fromDirFd, component(fromName), toDirFd, component(toName), 0) === 0) return true;
  const errno = lastErrno();
  if (errno === ENOENT || errno === EEXIST || errno === EPERM) return false;
  throw kernelError("linkat", show(toName), errno);
}

/** Gives an open file (O_PATH is enough, or O_TMPFILE) a name. */
export function linkFdAt(fd: number, toDirFd: number, toName: PathArg): void {
  const name = component(toName);
  // AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH (ENOENT without); the /proc form wants only /proc.
  if (libc.linkat(fd, "", toDirFd, name, AT_EMPTY_PATH) === 0) return;
  if (lastErrno() !== ENOENT) throw kernelError("linkat", show(toName), lastErrno());
  check(libc.linkat(AT_FDCWD, `/proc/self/fd/${fd}`, toDirFd, name, AT_SYMLINK_FOLLOW), "linkat", toName);
}

/** Removes a file, link or device, or with `directory` an empty directory; false when nothing of that name is there. */
export function unlinkAt(dirFd: number, name: PathArg, options: { readonly directory?: boolean } = {}): boolean {
  if (libc.unlinkat(dirFd, component(name), options.directory ? AT_REMOVEDIR : 0) === 0) return true;
  const errno = lastErrno();
  if (errno === ENOENT) return false;
  throw kernelError("unlinkat", show(name), errno);
}

/** Renames between directories. With `noReplace` an existing target is ALREADY_EXISTS instead of being replaced. */
export function renameAt(
  fromDirFd: number,
  fromName: PathArg,
  toDirFd: number,
  toName: PathArg,
  options: { readonly noReplace?: boolean } = {},
): void {
  const flags = options.noReplace ? 1 : 0;
  const [from, to] = [component(fromName), component(toName)];
  check(syscalls.renameat2(SYS.renameat2, fromDirFd, from, toDirFd, to, flags), "renameat2", toName);
}

/** Makes a device, FIFO, socket or empty file: `mode` holds the type bits too (`S_IFCHR | 0o600`). */
export function mknodAt(dirFd: number, name: PathArg, mode: number, major = 0, minor = 0): void {
  check(libc.mknodat(dirFd, component(name), mode, makeDevice(major, minor)), "mknodat", name);
}

/** Changes the owner of the entry itself, also of a symbolic link. Clears setuid and setgid bits: chmod afterwards. */
export function chownAt(dirFd: number, name: PathArg, uid: number, gid: number): void {
  check(libc.fchownat(dirFd, component(name), uid, gid, AT_SYMLINK_NOFOLLOW), "fchownat", name);
}

let hasFchmodat2 = true;

/** Changes the permission bits of an entry that is no symbolic link (UNIMPLEMENTED `EOPNOTSUPP` for one). */
export function chmodAt(dirFd: number, name: PathArg, mode: number): void {
  const single = component(name);
  if (hasFchmodat2) {
    if (syscalls.fchmodat2(SYS.fchmodat2, dirFd, single, mode, AT_SYMLINK_NOFOLLOW) === 0) return;
    if (lastErrno() !== ENOSYS) throw kernelError("fchmodat2", show(name), lastErrno());
    hasFchmodat2 = false; // before Linux 6.6
  }
  const fd = openAt(dirFd, name, O_PATH);
  try {
    check(libc.chmod(`/proc/self/fd/${fd}`, mode), "chmod", name);
  } catch (error) {
    // chmod of a link through its own O_PATH descriptor: ELOOP or EOPNOTSUPP by kernel; one answer for both.
    throw hasErrno(error, "ELOOP") ? kernelError("chmod", show(name), 95) : error;
  } finally {
    libc.close(fd);
  }
}

/** A point in time: whole seconds since 1970 (may be negative) and nanoseconds below one second. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

// Two struct timespec, in halves: BigInts would be made for nothing.
const times = new Int32Array(8);
const timesBytes = new Uint8Array(times.buffer);

/** Sets access and modification time of the entry itself, to the nanosecond, also of a symbolic link. */
export function setTimesAt(dirFd: number, name: PathArg, access: Timestamp, modification: Timestamp): void {
  fillTimes(access, modification);
  check(libc.utimensat(dirFd, component(name), timesBytes, AT_SYMLINK_NOFOLLOW), "utimensat", name);
}

/** The same for an open file. */
export function setTimes(fd: number, access: Timestamp, modification: Timestamp): void {
  fillTimes(access, modification);
  check(libc.futimens(fd, timesBytes), "futimens", `fd ${fd}`);
}

function fillTimes(access: Timestamp, modification: Timestamp): void {
  times[0] = access.seconds;
  times[1] = Math.floor(access.seconds / 2 ** 32);
  times[2] = access.nanoseconds;
  times[4] = modification.seconds;
  times[5] = Math.floor(modification.seconds / 2 ** 32);
  times[6] = modification.nanoseconds;
}

const linkTarget = Buffer.alloc(4097);

/** Where a symbolic link points, as raw bytes. @throws INVALID_ARGUMENT `EINVAL` for what is no link. */
export function readlinkAt(dirFd: number, name: PathArg): Buffer {
  const length = check(libc.readlinkat(dirFd, component(name), linkTarget, linkTarget.length), "readlinkat", name);
  return Buffer.from(linkTarget.subarray(0, length));
}

/** A path to an entry of an open directory, for calls that have no *at form: the fd is resolved, the name is not followed
 *  by calls that do not follow (`l…`). */
export function pathAt(dirFd: number, name: PathArg): PathArg {
  const single = component(name, false);
  const prefix = `/proc/self/fd/${dirFd}/`;
  return typeof single === "string" ? prefix + single : Buffer.concat([Buffer.from(prefix), single]);
}

/** @throws INVALID_ARGUMENT `EINVAL` unless the name is one component. */
function component(name: PathArg, terminate = true): PathArg {
  const single =
    typeof name === "string"
      ? name !== "" && name !== "." && name !== ".." && !name.includes("/")
      : isSingleComponent(name);
  if (!single) throw kernelError("name", show(name), EINVAL, "is not a single path component");
  const checked = cPath(name);
  return terminate ? checked : name;
}

function isSingleComponent(name: Uint8Array): boolean {
  const dots = name.length <= 2 && name.every((byte) => byte === 0x2e);
  return !dots && !name.includes(0x2f);
}

/** glibc's makedev. */
export function makeDevice(major: number, minor: number): bigint {
  const [M, m] = [BigInt(major), BigInt(minor)];
  return ((M & 0xfffff000n) << 32n) | ((M & 0xfffn) << 8n) | ((m & 0xffffff00n) << 12n) | (m & 0xffn);
}
