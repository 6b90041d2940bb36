/**
 * Writing to the standard input of a running container, through conmon's attach socket.
 *
 * conmon copies all output to whoever is connected there, and waits for one that does not read: the container then stands
 * still (seen: 134 MB/s to 0). So this end is shut for reading before anything else: conmon's first write to it fails, and it
 * never writes to it again (conn_sock.c, write_back_to_remote_consoles), whatever becomes of this process. Output is read from
 * the log, which waits for nobody.
 *
 * What conmon does at the end of our writing depends on how the container was made: it closes the container's standard input,
 * or leaves it open (`--leave-stdin-open`).
 */
import { closeSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { hasCode, StatusError } from "@berth/base";
import { connectSeqpacket, shutdownReading } from "@berth/linux";
import type { ContainerInput } from "../runtime.ts";

/** conmon takes packets of at most 32 KiB and cuts what is longer (CONN_SOCK_BUF_SIZE). */
const PACKET_BYTES = 16 * 1024;
const RETRY_MS = { first: 1, longest: 50 } as const;

/** @throws FAILED_PRECONDITION `SUPERVISOR_GONE`. */
export function openInput(path: string, id: string): ContainerInput {
  const fd = connect(path, id);
  let open = true;
  return {
    async write(data, signal) {
      for (let at = 0; at < data.length && open; at += PACKET_BYTES) {
        const packet = data.subarray(at, at + PACKET_BYTES);
        // A container that does not read makes conmon not read either.
        for (
          let waitMs: number = RETRY_MS.first;
          open && !sent(fd, packet);
          waitMs = Math.min(2 * waitMs, RETRY_MS.longest)
        ) {
          await delay(waitMs, undefined, { signal });
        }
      }
    },
    [Symbol.dispose]() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

function connect(path: string, id: string): number {
  try {
    const fd = connectSeqpacket(path);
    shutdownReading(fd);
    return fd;
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND", "UNAVAILABLE", "UNKNOWN")) throw error;
    const text = `container "${id}" has no supervisor that would take its input`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "SUPERVISOR_GONE", cause: error });
  }
}

/** False when the other end's buffer is full. A container that has ended takes everything and reads nothing. */
function sent(fd: number, packet: Uint8Array): boolean {
  try {
    writeSync(fd, packet);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EAGAIN") return false;
    if (code === "EPIPE" || code === "ECONNRESET" || code === "ENOTCONN") return true;
    throw error;
  }
}
