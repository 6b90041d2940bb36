/** Pipes between processes, of a larger capacity than the kernel's 64 KiB, so that their two ends need not keep step. */
import { kernelError } from "./errno.ts";
import { lastErrno, libc } from "./libc.ts";
import { O_CLOEXEC } from "./paths.ts";

/** linux/fcntl.h: F_LINUX_SPECIFIC_BASE + 7. */
const F_SETPIPE_SZ = 1031;

export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/**
 * Makes a pipe; both descriptors are close-on-exec and the caller's. Where the kernel refuses `capacityBytes`
 * (fs.pipe-max-size, fs.pipe-user-pages-soft) the pipe has the usual capacity: it is slower, not wrong.
 * @throws RESOURCE_EXHAUSTED `EMFILE`, `ENFILE`.
 */
export function openPipe(capacityBytes: number): Pipe {
  const fds = new Int32Array(2);
  if (libc.pipe2(new Uint8Array(fds.buffer), O_CLOEXEC) < 0) throw kernelError("pipe2", "pipe", lastErrno());
  const [readFd, writeFd] = [fds[0]!, fds[1]!];
  libc.fcntl(writeFd, F_SETPIPE_SZ, capacityBytes);
  return { readFd, writeFd };
}
