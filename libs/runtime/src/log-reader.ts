/**
 * Reading a container's log file: the last lines, lines since a time, and following through rotations.
 *
 * Rotation renames `PATH` to `PATH.1` (and `.1` to `.2`, …) and lets the writer open `PATH` anew ({@link rotateLog} of
 * log-rotate.ts). A follower holds the file open, so it reads the old one to its end, finds which number it has now, and
 * goes on with the next younger one; nothing is lost as long as a file is kept until it was read.
 */
import { watch, type BigIntStats } from "node:fs";
import { open, readdir, stat, type FileHandle } from "node:fs/promises";
import { dirname, basename } from "node:path";
import { anySignal, aborted, StatusError, throwIfAborted } from "@berth/base";
import { LogLineParser, type LogLine } from "./log-lines.ts";
import { numbered } from "./log-rotate.ts";
import { tailPosition } from "./log-tail.ts";

export interface ReadLogOptions {
  /** Only the last so many lines, rotated files included. Default: all of the current file. */
  readonly tail?: number;
  /** Only lines written at or after this time. */
  readonly sinceMs?: number;
  /** Go on with lines as they are written. */
  readonly follow?: boolean;
  /** Begin here in the current file: its size at some moment, for what is written from that moment on. */
  readonly fromOffset?: number;
  /** Give the bytes as they were written, newlines included, in pieces (`complete: false`), and a gap as an error. */
  readonly live?: boolean;
  /** When following: fires when the writer is done; what is written by then is still given, then the iteration ends. */
  readonly ended?: AbortSignal;
  /** Ends at once with its reason (CANCELLED). */
  readonly signal?: AbortSignal;
}

/** A lost file notification delays a follower by at most this. */
const RECHECK_MS = 1000;
const CHUNK_BYTES = 64 * 1024;

/** A log that does not exist is an empty one. @throws RESOURCE_EXHAUSTED `LOG_READER_TOO_SLOW` for a gap in a live one. */
export async function* readLog(path: string, options: ReadLogOptions = {}): AsyncGenerator<LogLine, void, void> {
  const since = options.sinceMs ?? -Infinity;
  const wanted = (line: LogLine): boolean => line.atMs >= since;
  const all = lines(path, options, { number: 0, offset: await begin(path, options.fromOffset ?? 0) });
  for await (const line of options.tail === undefined ? all : tailed(path, options.tail, options)) {
    if (wanted(line)) yield line;
  }
}

/** A file that is shorter by now is another one: it was rotated meanwhile. */
async function begin(path: string, offset: number): Promise<number> {
  if (offset === 0) return 0;
  const size = await stat(path).then(
    (info) => info.size,
    () => 0,
  );
  return size < offset ? 0 : offset;
}

/** The last lines of what is there now; then, when following, the rest without a gap. */
async function* tailed(path: string, tail: number, options: ReadLogOptions): AsyncGenerator<LogLine, void, void> {
  const position = await tailPosition(path, tail);
  const skip = Math.max(0, position.lines - tail);
  let index = 0;
  for await (const line of lines(path, options, position)) {
    index += 1;
    if (index > skip) yield line;
  }
}

async function* lines(
  path: string,
  options: ReadLogOptions,
  position: { readonly number: number; readonly offset: number } = { number: 0, offset: 0 },
): AsyncGenerator<LogLine, void, void> {
  const { signal } = options;
  const parser = new LogLineParser(options.live);
  using changes = options.follow === true ? new FileChanges(path) : undefined;
  let file = await openLog(numbered(path, position.number));
  let successor: FileHandle | undefined;
  let offset = position.offset;
  try {
    for (;;) {
      throwIfAborted(signal);
      // Looked at before reading: what was written until then is read below.
      const last = options.follow !== true || options.ended?.aborted === true;
      const changed = changes?.next();
      successor = file === undefined ? await openLog(path) : await openSuccessor(file, path, options.live);
      for await (const chunk of chunksFrom(file, offset)) {
        offset += chunk.length;
        yield* options.live === true ? joined(parser.push(chunk)) : parser.push(chunk);
        throwIfAborted(signal);
      }
      if (successor !== undefined) {
        await file?.close();
        [file, successor, offset] = [successor, undefined, 0];
      } else if (last) {
        break;
      } else {
        await changed?.within(RECHECK_MS, anySignal(signal, options.ended));
      }
    }
    yield* parser.finish();
  } finally {
    await file?.close();
    await successor?.close();
  }
}

const NEWLINE = Buffer.from("\n");

/** Neighbours of the same stream as one piece: a message for each line would cost more than the line. */
function* joined(lines: readonly LogLine[]): Generator<LogLine> {
  let parts: Buffer[] = [];
  for (const [index, line] of lines.entries()) {
    parts.push(line.text);
    if (line.complete) parts.push(NEWLINE);
    if (lines[index + 1]?.stream === line.stream) continue;
    yield { ...line, text: Buffer.concat(parts), complete: false };
    parts = [];
  }
}

async function* chunksFrom(file: FileHandle | undefined, offset: number): AsyncGenerator<Buffer, void, void> {
  if (file === undefined) return;
  for (let at = offset; ;) {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/**
 * The file that follows the open one, if it has been rotated away and its successor exists: the writer has then closed it.
 * A rotation is several renames, and more may follow at once, so what was found is believed only when the names stood for
 * the same files before and after opening it.
 */
async function openSuccessor(file: FileHandle, path: string, live = false): Promise<FileHandle | undefined> {
  const own = fileId(await file.stat({ bigint: true }));
  for (;;) {
    const before = await generations(path);
    const index = before.findIndex(({ id }) => id === own);
    // Not there: removed as too old, so the oldest that is left comes next.
    const next = index < 0 ? before.at(-1) : before[index - 1];
    if (next === undefined) return undefined;
    const opened = await openLog(next.path);
    const isNext = opened !== undefined && fileId(await opened.stat({ bigint: true })) === next.id;
    if (isNext && sameFiles(before, await generations(path))) {
      if (index >= 0 || !live) return opened;
      await opened.close();
      throw tooSlow();
    }
    await opened?.close();
  }
}

function tooSlow(): StatusError {
  const text = "the output came faster than it was read, and its log has been rotated away; begin again";
  return new StatusError("RESOURCE_EXHAUSTED", text, { reason: "LOG_READER_TOO_SLOW" });
}

interface Generation {
  readonly path: string;
  readonly number: number;
  readonly id: string;
}

/** The current file and the rotated ones, youngest first. */
async function generations(path: string): Promise<readonly Generation[]> {
  const name = basename(path);
  const names = (await readdir(dirname(path))).filter((entry) => entry === name || isRotated(entry, name));
  const found = await Promise.all(
    names.map(async (entry): Promise<Generation | undefined> => {
      const number = entry === name ? 0 : Number(entry.slice(name.length + 1));
      const info = await stat(numbered(path, number), { bigint: true }).catch(() => undefined);
      return info === undefined ? undefined : { path: numbered(path, number), number, id: fileId(info) };
    }),
  );
  return found.filter((generation) => generation !== undefined).sort((a, b) => a.number - b.number);
}

function isRotated(entry: string, name: string): boolean {
  return entry.startsWith(`${name}.`) && /^[1-9]\d*$/.test(entry.slice(name.length + 1));
}

function sameFiles(a: readonly Generation[], b: readonly Generation[]): boolean {
  return a.length === b.length && a.every(({ number, id }, index) => number === b[index]?.number && id === b[index].id);
}

function fileId(info: BigIntStats): string {
  return `${info.dev}:${info.ino}`;
}

async function openLog(path: string): Promise<FileHandle | undefined> {
  return await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

interface Change {
  within(ms: number, signal: AbortSignal): Promise<void>;
}

/** Wakes when the log, or its directory because of a rotation, changes. */
class FileChanges implements Disposable {
  #wake: () => void = () => {};
  readonly #watcher;

  constructor(path: string) {
    this.#watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
      if (name === null || name.startsWith(basename(path))) this.#wake();
    });
    this.#watcher.on("error", () => {});
  }

  next(): Change {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return {
      async within(ms, signal) {
        let timer: NodeJS.Timeout | undefined;
        const elapsed = new Promise<void>((done) => (timer = setTimeout(done, ms)));
        await Promise.race([promise, elapsed, aborted(signal)]);
        clearTimeout(timer);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
  }
}
