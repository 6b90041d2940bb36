/**
 * Pseudo-terminals, opened through the master's own descriptor (TIOCGPTPEER, Linux 4.13), so that no path in /dev/pts is
 * looked up and another mount of devpts cannot get in between.
 *
 * Give `slaveFd` to the child as stdio 0, 1 and 2 (with a new session: `setsid --ctty`, or `detached: true`) and close it
 * here afterwards; read the master with `new tty.ReadStream(masterFd)`. When the last slave is closed, that stream ends
 * with an EIO error, which is Linux's way to say end of file.
 */
import { constants } from "node:fs";
import { check, libc, AT_FDCWD } from "./libc.ts";
import { O_CLOEXEC } from "./paths.ts";

const TIOCSPTLCK = 0x40045431;
const TIOCGPTN = 0x80045430;
const TIOCGPTPEER = 0x5441;
const TIOCSWINSZ = 0x5414;
const TIOCGWINSZ = 0x5413;

export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
}

export interface Pty {
  /** Both are close-on-exec and the caller's to close. */
  readonly masterFd: number;
  readonly slaveFd: number;
  /** `/dev/pts/3`: for display; it may mean another terminal in another mount namespace. */
  readonly path: string;
}

/** @throws RESOURCE_EXHAUSTED when the host has no terminals left; NOT_FOUND without devpts. */
export function openPty(size?: WindowSize): Pty {
  const flags = constants.O_RDWR | constants.O_NOCTTY | O_CLOEXEC;
  const masterFd = check(libc.openat(AT_FDCWD, "/dev/ptmx", flags, 0), "open", "/dev/ptmx");
  try {
    const word = Buffer.alloc(4);
    check(libc.ioctlPointer(masterFd, TIOCSPTLCK, word), "ioctl TIOCSPTLCK", "/dev/ptmx");
    check(libc.ioctlPointer(masterFd, TIOCGPTN, word), "ioctl TIOCGPTN", "/dev/ptmx");
    if (size !== undefined) setWindowSize(masterFd, size);
    const slaveFd = check(libc.ioctlValue(masterFd, TIOCGPTPEER, flags), "ioctl TIOCGPTPEER", "/dev/ptmx");
    return { masterFd, slaveFd, path: `/dev/pts/${word.readUInt32LE(0)}` };
  } catch (error) {
    libc.close(masterFd);
    throw error;
  }
}

/** Resizes the terminal from either end; the foreground processes get SIGWINCH. */
export function setWindowSize(fd: number, size: WindowSize): void {
  const buffer = Buffer.alloc(8);
  buffer.writeUInt16LE(size.rows, 0);
  buffer.writeUInt16LE(size.columns, 2);
  check(libc.ioctlPointer(fd, TIOCSWINSZ, buffer), "ioctl TIOCSWINSZ", `fd ${fd}`);
}

export function windowSize(fd: number): WindowSize {
  const buffer = Buffer.alloc(8);
  check(libc.ioctlPointer(fd, TIOCGWINSZ, buffer), "ioctl TIOCGWINSZ", `fd ${fd}`);
  return { rows: buffer.readUInt16LE(0), columns: buffer.readUInt16LE(2) };
}
