/** Terminals of commands: the master side as two streams, and the size of one inside a container. */
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { PassThrough, Writable, type Readable } from "node:stream";
import { ReadStream } from "node:tty";
import { O_PATH, setWindowSize, type WindowSize } from "@berth/linux";

export interface MasterStreams {
  /** Ending it types the end-of-file character: a terminal has no other half-close. */
  readonly stdin: Writable;
  /** Ends when the last process has let go of the terminal. */
  readonly stdout: Readable;
  closed(): boolean;
  close(): void;
}

const END_OF_TRANSMISSION = "\u0004";

/** Takes the descriptor over. */
export function masterStreams(masterFd: number): MasterStreams {
  const socket = new ReadStream(masterFd);
  const stdout = new PassThrough();
  socket.on("error", (error: NodeJS.ErrnoException) => {
    // EIO is how Linux says that no process has the terminal open any more.
    if (error.code === "EIO") stdout.end();
    else stdout.destroy(error);
  });
  socket.pipe(stdout);
  const stdin = new Writable({
    write: (chunk: Buffer, _encoding, done) => void socket.write(chunk, () => done()),
    final: (done) => void socket.write(END_OF_TRANSMISSION, () => done()),
  });
  return { stdin, stdout, closed: () => socket.destroyed, close: () => void socket.destroy() };
}

/** Unix98 terminals, Linux' device numbers (admin-guide/devices.txt). */
const PTS_MAJORS = { first: 136, last: 143 };

/**
 * Sets the size of the terminal that a process has as its standard input; the kernel then signals the terminal's foreground
 * processes. The process belongs to a container and may have put anything there: the file is pinned before it is judged, and
 * opened only if it is a terminal.
 */
export function resizeTerminalOf(pid: number, size: WindowSize): void {
  const pinned = tryOpen(`/proc/${pid}/fd/0`, O_PATH);
  if (pinned === undefined) return;
  try {
    const { rdev } = fstatSync(pinned);
    const major = (rdev >>> 8) & 0xfff;
    if (major < PTS_MAJORS.first || major > PTS_MAJORS.last) return;
    const flags = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
    const terminal = tryOpen(`/proc/self/fd/${pinned}`, flags);
    if (terminal === undefined) return;
    try {
      setWindowSize(terminal, size);
    } finally {
      closeSync(terminal);
    }
  } finally {
    closeSync(pinned);
  }
}

/** Undefined when the process has ended meanwhile, or has closed it. */
function tryOpen(path: string, flags: number): number | undefined {
  try {
    return openSync(path, flags);
  } catch {
    return undefined;
  }
}
