/** Unix sockets of packets, which Node cannot make. Descriptors are close-on-exec, non-blocking, and the caller's. */
import { closeSync, constants, openSync } from "node:fs";
import { basename, dirname } from "node:path";
import { fromNodeError, kernelError } from "./errno.ts";
import { check, lastErrno, libc } from "./libc.ts";
import { O_PATH } from "./paths.ts";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_RD = 0;
const MAX_UNIX_PATH_BYTES = 107;

/**
 * A unix socket of packets (SOCK_SEQPACKET) connected to `path`, which may be longer than an address can be.
 * @throws NOT_FOUND; UNAVAILABLE when nobody listens there.
 */
export function connectSeqpacket(path: string): number {
  const directory = open(dirname(path), constants.O_DIRECTORY | O_PATH);
  try {
    const fd = check(libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket", path);
    const address = unixAddress(`/proc/self/fd/${directory}/${basename(path)}`);
    if (libc.connect(fd, address, address.length) === 0) return fd;
    const errno = lastErrno();
    libc.close(fd);
    throw kernelError("connect", JSON.stringify(path), errno);
  } finally {
    closeSync(directory);
  }
}

/** Nothing more will be read: whoever writes to the other end gets EPIPE instead of waiting for us. */
export function shutdownReading(fd: number): void {
  check(libc.shutdown(fd, SHUT_RD), "shutdown", `fd ${fd}`);
}

function open(path: string, flags: number): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw fromNodeError(error, "open", JSON.stringify(path));
  }
}

/** sockaddr_un. */
function unixAddress(path: string): Buffer {
  const text = Buffer.from(path);
  if (text.length > MAX_UNIX_PATH_BYTES) throw kernelError("connect", JSON.stringify(path), 36);
  const address = Buffer.alloc(2 + text.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  text.copy(address, 2);
  return address;
}
