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
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/**
 * Begins to connect to an IPv4 address of the namespace at `netnsPath`; the socket tells of success and failure by its events.
 * @throws NOT_FOUND when there is no such namespace
 */
export function connectInNetns(netnsPath: string, address: { readonly host: string; readonly port: number }): Socket {
  const fd = socketIn(netnsPath);
  // Nothing is read before it is connected: reading an unconnected socket is an error.
  const socket = new Socket({ fd, readable: true, writable: true, manualStart: true } as ConstructorParameters<
    typeof Socket
  >[0]);
  return socket.connect({ host: address.host, port: address.port, family: 4 });
}

function socketIn(netnsPath: string): number {
  const there = open(netnsPath);
  try {
    const here = open("/proc/thread-self/ns/net");
    try {
      if (libc.setns(there, CLONE_NEWNET) !== 0) throw kernelError("setns", netnsPath, lastErrno());
      const fd = libc.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
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
