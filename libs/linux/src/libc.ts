/**
 * The C library, declared once. Only files of this package import it.
 *
 * koffi loads per thread: a worker that imports this module gets its own handles and its own scratch buffers, so nothing
 * here is shared between threads. `koffi.errno()` is what the last synchronous call of this thread left behind.
 *
 * System calls that glibc 2.36 has no wrapper for go through `syscall(2)`, declared with a fixed shape per use; on x86-64
 * and arm64 a variadic function takes integer and pointer arguments in the same registers as a fixed one.
 */
import koffi from "koffi";
import { kernelError } from "./errno.ts";

const c = koffi.load("libc.so.6");

/** A path as JavaScript text (UTF-8 on the wire) or as raw bytes, for names that are not UTF-8. */
export type PathArg = string | Uint8Array;

type CallBack<T> = (error: unknown, result: T) => void;
interface Async<A extends unknown[], R> {
  (...args: A): R;
  async(...args: [...A, CallBack<R>]): void;
}
function declare<A extends unknown[], R>(definition: string): Async<A, R> {
  return c.func(definition);
}

type Path = PathArg | null;
type Bytes = Uint8Array | null;
type Int = number;

export const libc = {
  mount: declare<[Path, Path, Path, Int, Path], Int>(
    "int mount(const char *, const char *, const char *, unsigned long, const char *)",
  ),
  umount2: declare<[Path, Int], Int>("int umount2(const char *, int)"),
  openat: declare<[Int, Path, Int, Int], Int>("int openat(int, const char *, int, uint32_t)"),
  close: declare<[Int], Int>("int close(int)"),
  read: declare<[Int, Bytes, Int], Int>("long read(int, void *, size_t)"),
  mkdirat: declare<[Int, Path, Int], Int>("int mkdirat(int, const char *, uint32_t)"),
  symlinkat: declare<[Path, Int, Path], Int>("int symlinkat(const char *, int, const char *)"),
  linkat: declare<[Int, Path, Int, Path, Int], Int>("int linkat(int, const char *, int, const char *, int)"),
  unlinkat: declare<[Int, Path, Int], Int>("int unlinkat(int, const char *, int)"),
  mknodat: declare<[Int, Path, Int, bigint], Int>("int mknodat(int, const char *, uint32_t, uint64_t)"),
  fchownat: declare<[Int, Path, Int, Int, Int], Int>("int fchownat(int, const char *, uint32_t, uint32_t, int)"),
  utimensat: declare<[Int, Path, Bytes, Int], Int>("int utimensat(int, const char *, const void *, int)"),
  futimens: declare<[Int, Bytes], Int>("int futimens(int, const void *)"),
  readlinkat: declare<[Int, Path, Bytes, Int], Int>("long readlinkat(int, const char *, void *, size_t)"),
  connect: declare<[Int, Bytes, Int], Int>("int connect(int, const void *, uint32_t)"),
  shutdown: declare<[Int, Int], Int>("int shutdown(int, int)"),
  pipe2: declare<[Bytes, Int], Int>("int pipe2(void *, int)"),
  fcntl: declare<[Int, Int, Int], Int>("int fcntl(int, int, long)"),
  statx: declare<[Int, Path, Int, Int, Bytes], Int>("int statx(int, const char *, int, uint32_t, void *)"),
  chmod: declare<[Path, Int], Int>("int chmod(const char *, uint32_t)"),
  statfs: declare<[Path, Bytes], Int>("int statfs(const char *, void *)"),
  syncfs: declare<[Int], Int>("int syncfs(int)"),
  clockGettime: declare<[Int, Bytes], Int>("int clock_gettime(int, void *)"),
  ioctlPointer: declare<[Int, Int, Bytes], Int>("int ioctl(int, unsigned long, void *)"),
  ioctlValue: declare<[Int, Int, Int], Int>("int ioctl(int, unsigned long, long)"),
  lgetxattr: declare<[Path, Path, Bytes, Int], Int>("long lgetxattr(const char *, const char *, void *, size_t)"),
  fgetxattr: declare<[Int, Path, Bytes, Int], Int>("long fgetxattr(int, const char *, void *, size_t)"),
  lsetxattr: declare<[Path, Path, Bytes, Int, Int], Int>(
    "int lsetxattr(const char *, const char *, const void *, size_t, int)",
  ),
  fsetxattr: declare<[Int, Path, Bytes, Int, Int], Int>("int fsetxattr(int, const char *, const void *, size_t, int)"),
  llistxattr: declare<[Path, Bytes, Int], Int>("long llistxattr(const char *, void *, size_t)"),
  flistxattr: declare<[Int, Bytes, Int], Int>("long flistxattr(int, void *, size_t)"),
  lremovexattr: declare<[Path, Path], Int>("int lremovexattr(const char *, const char *)"),
  fremovexattr: declare<[Int, Path], Int>("int fremovexattr(int, const char *)"),
  setns: declare<[Int, Int], Int>("int setns(int, int)"),
  socket: declare<[Int, Int, Int], Int>("int socket(int, int, int)"),
};

/** System calls by number. Those from 424 on have the same number on every architecture that Linux added since. */
export const SYS = {
  pidfdSendSignal: 424,
  openTree: 428,
  moveMount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  pidfdOpen: 434,
  openat2: 437,
  mountSetattr: 442,
  quotactlFd: 443,
  fchmodat2: 452,
  renameat2: process.arch === "arm64" ? 276 : 316,
} as const;

export const syscalls = {
  openat2: declare<[Int, Int, Path, Bytes, Int], Int>("long syscall(long, int, const char *, void *, size_t)"),
  fchmodat2: declare<[Int, Int, Path, Int, Int], Int>("long syscall(long, int, const char *, uint32_t, uint32_t)"),
  renameat2: declare<[Int, Int, Path, Int, Path, Int], Int>(
    "long syscall(long, int, const char *, int, const char *, uint32_t)",
  ),
  pathFlags: declare<[Int, Path, Int], Int>("long syscall(long, const char *, uint32_t)"),
  fsconfig: declare<[Int, Int, Int, Path, Path, Int], Int>(
    "long syscall(long, int, uint32_t, const char *, const char *, int)",
  ),
  threeInts: declare<[Int, Int, Int, Int], Int>("long syscall(long, int, uint32_t, uint32_t)"),
  moveMount: declare<[Int, Int, Path, Int, Path, Int], Int>(
    "long syscall(long, int, const char *, int, const char *, uint32_t)",
  ),
  openTree: declare<[Int, Int, Path, Int], Int>("long syscall(long, int, const char *, uint32_t)"),
  mountSetattr: declare<[Int, Int, Path, Int, Bytes, Int], Int>(
    "long syscall(long, int, const char *, uint32_t, void *, size_t)",
  ),
  quotactlFd: declare<[Int, Int, Int, Int, Bytes], Int>("long syscall(long, uint32_t, uint32_t, uint32_t, void *)"),
  pidfdSendSignal: declare<[Int, Int, Int, Bytes, Int], Int>("long syscall(long, int, int, void *, uint32_t)"),
};

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;

/** What errno the last synchronous call of this thread left. */
export function lastErrno(): number {
  return koffi.errno();
}

/**
 * A path as C takes it. A NUL inside would silently cut it short, so it is refused; bytes get the NUL they need.
 * @throws INVALID_ARGUMENT `EINVAL`.
 */
export function cPath(path: PathArg): PathArg {
  if (typeof path === "string") {
    if (path.includes("\0")) throw kernelError("path", show(path), 22, "contains a NUL");
    return path;
  }
  if (path.includes(0)) throw kernelError("path", show(path), 22, "contains a NUL");
  const terminated = new Uint8Array(path.length + 1);
  terminated.set(path);
  return terminated;
}

/** How a path is shown in an error. */
export function show(path: PathArg): string {
  return JSON.stringify(typeof path === "string" ? path : Buffer.from(path).toString("utf8"));
}

/** Throws when a call returned a negative number; gives the number otherwise. */
export function check(result: number, call: string, path: PathArg): number {
  if (result < 0) throw kernelError(call, show(path), lastErrno());
  return result;
}
