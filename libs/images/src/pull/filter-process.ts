/**
 * A program as a filter of bytes: written to through one pipe, read from through another, of a mebibyte each.
 *
 * The pipes that Node makes for a child hold some 200 KiB, and each read of them allocates: with those, program and reader
 * waited for each other about a third of the time. Here the reader has one buffer, used again for every chunk.
 */
import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { openPipe, type Pipe } from "@berth/linux";

const PIPE_BYTES = 1024 * 1024;
const READ_BYTES = 256 * 1024;

/** A stream, and how its chunks are had. */
export interface ChunkSource {
  readonly stream: Readable;
  /** Begins the reading. A chunk is valid during the call only. */
  listen(onChunk: (chunk: Buffer) => void): void;
}

export interface FilterProcess {
  readonly input: Writable;
  readonly output: ChunkSource;
  /** Resolves when it has ended well and all its output was handed out. */
  readonly ended: Promise<void>;
  kill(): void;
}

export function startFilter(program: string, args: readonly string[]): FilterProcess {
  const { toChild, fromChild } = openPipes();
  const child = spawn(program, args, { stdio: [toChild.readFd, fromChild.writeFd, "ignore"] });
  closeSync(toChild.readFd);
  closeSync(fromChild.writeFd);
  const exited = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} ended with ${signal ?? `code ${code}`}`));
    });
  });
  const output = pipeSource(fromChild.readFd);
  const drained = new Promise<void>((resolve) => output.stream.once("close", () => resolve()));
  return {
    input: new Socket({ fd: toChild.writeFd, readable: false, writable: true }),
    output,
    ended: Promise.all([exited, drained]).then(() => undefined),
    kill: () => void child.kill("SIGKILL"),
  };
}

function openPipes(): { readonly toChild: Pipe; readonly fromChild: Pipe } {
  const toChild = openPipe(PIPE_BYTES);
  try {
    return { toChild, fromChild: openPipe(PIPE_BYTES) };
  } catch (error) {
    closeSync(toChild.readFd);
    closeSync(toChild.writeFd);
    throw error;
  }
}

function pipeSource(fd: number): ChunkSource {
  let take: ((chunk: Buffer) => void) | undefined;
  const callback = (length: number, buffer: Uint8Array): boolean => {
    take?.(Buffer.from(buffer.buffer, buffer.byteOffset, length));
    return true;
  };
  const stream = new Socket({
    fd,
    readable: true,
    writable: false,
    onread: { buffer: Buffer.allocUnsafeSlow(READ_BYTES), callback },
  });
  return {
    stream,
    listen(onChunk) {
      take = onChunk;
      stream.resume();
    },
  };
}
