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
const MAX_ERROR_BYTES = 1024;

/** A stream, and how its chunks are had. */
export interface ChunkSource {
  readonly stream: Readable;
  /** Begins the reading. A chunk is valid during the call only; a promise stops the reading until it is resolved. */
  listen(onChunk: (chunk: Buffer) => Promise<void> | void): void;
}

export interface FilterProcess {
  readonly input: Writable;
  readonly output: ChunkSource;
  /** Resolves when it has ended well and all its output was handed out; rejects with what it said on stderr. */
  readonly ended: Promise<void>;
  kill(): void;
}

export interface FilterOptions {
  /** All of its environment; by default ours. */
  readonly env?: Readonly<Record<string, string>>;
  /** To be read from descriptor 3; closed there when undefined. */
  readonly payload?: Uint8Array | undefined;
}

export function startFilter(program: string, args: readonly string[], options: FilterOptions = {}): FilterProcess {
  const { env, payload } = options;
  const pipes = openPipes(payload === undefined ? 2 : 3);
  const [toChild, fromChild, extra] = pipes as [Pipe, Pipe, Pipe | undefined];
  const stdio: (number | "pipe")[] = [toChild.readFd, fromChild.writeFd, "pipe"];
  if (extra !== undefined) stdio.push(extra.readFd);
  const child = spawn(program, [...args], { stdio, ...(env === undefined ? {} : { env }) });
  closeSync(toChild.readFd);
  closeSync(fromChild.writeFd);
  if (extra !== undefined && payload !== undefined) {
    closeSync(extra.readFd);
    // A program need not read it.
    new Socket({ fd: extra.writeFd, readable: false, writable: true }).on("error", () => {}).end(payload);
  }
  let said = "";
  child.stderr?.on("data", (text: Buffer) => (said = (said + text.toString("utf8")).slice(0, MAX_ERROR_BYTES)));
  const exited = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => (code === 0 ? resolve() : undefined));
    // Later than the exit: all that it said has been read.
    child.once("close", (code, signal) => {
      const why = said.trim() === "" ? "" : `: ${said.trim()}`;
      reject(new Error(`${program} ended with ${signal ?? `code ${code}`}${why}`));
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

function openPipes(count: number): Pipe[] {
  const pipes: Pipe[] = [];
  try {
    while (pipes.length < count) pipes.push(openPipe(PIPE_BYTES));
    return pipes;
  } catch (error) {
    for (const { readFd, writeFd } of pipes) {
      closeSync(readFd);
      closeSync(writeFd);
    }
    throw error;
  }
}

/** The reading end of a pipe, which this takes over. */
function pipeSource(fd: number): ChunkSource {
  let take: ((chunk: Buffer) => Promise<void> | void) | undefined;
  const callback = (length: number, buffer: Uint8Array): boolean => {
    const taken = take?.(Buffer.from(buffer.buffer, buffer.byteOffset, length));
    if (taken === undefined) return true;
    void taken.then(() => stream.resume());
    stream.pause();
    return false;
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
