/**
 * TCP connections from inside another network namespace, without a process there.
 *
 * A socket belongs to the namespace that its thread was in when it was made, for ever. So this thread is in the other one for
 * a single `socket(2)`: there and back in one synchronous call, in which no other JavaScript of the thread runs, and other
 * threads stay where they are (setns(2) moves the calling thread only). A thread that cannot get back would make every later
 * socket of the process in the wrong place, so then the process ends at once: containers survive that (A1), wrong sockets
 * nobody would notice.
 */
import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import { fromNodeError, kernelError } from "./errno.ts";
import { lastErrno, libc } from "./libc.ts";

const CLONE_NEWNET = 0x40000000;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

export interface NetnsAddress {
  readonly host: string;
  readonly port: number;
  /** Default 4. */
  readonly family?: 4 | 6;
  /** Default false: the other side's end is the end. */
  readonly allowHalfOpen?: boolean;
}

/**
 * Begins to connect to an address of the namespace at `netnsPath`; the socket tells of success and failure by its events.
 * @throws NOT_FOUND when there is no such namespace
 */
export function connectInNetns(
  netnsPath: string,
  { host, port, family = 4, allowHalfOpen = false }: NetnsAddress,
): Socket {
  const fd = socketIn(netnsPath, family === 4 ? AF_INET : AF_INET6);
  // Nothing is read before it is connected: reading an unconnected socket is an error.
  const options = { fd, readable: true, writable: true, manualStart: true, allowHalfOpen };
  const socket = new Socket(options);
  return socket.connect({ host, port, family });
}

function socketIn(netnsPath: string, family: number): number {
  const there = open(netnsPath);
  try {
    const here = open("/proc/thread-self/ns/net");
    try {
      if (libc.setns(there, CLONE_NEWNET) !== 0) throw kernelError("setns", netnsPath, lastErrno());
      const fd = libc.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      const errno = fd < 0 ? lastErrno() : 0;
      if (libc.setns(here, CLONE_NEWNET) !== 0) process.abort();
      if (fd < 0) throw kernelError("socket", netnsPath, errno);
      return fd;
    } finally {
      closeSync(here);
    }
  } finally {
    closeSync(there);
  }
}

function open(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    throw fromNodeError(error, "open", JSON.stringify(path));
  }
}
