/**
 * The CRI log format: `TIME STREAM TAG TEXT`, where TAG is `F` for a line's end and `P` for a part to be joined with what
 * follows on the same stream (k8s CRI log format; written by conmon's k8s-file driver).
 */

export interface LogLine {
  /** RFC 3339 with nanoseconds, as written. */
  readonly time: string;
  readonly atMs: number;
  readonly stream: "stdout" | "stderr";
  /** Raw bytes, without the newline. */
  readonly text: Buffer;
  /** False when the line was cut: it went on beyond the bound, or its rest was never written. */
  readonly complete: boolean;
}

interface LogRecord {
  readonly time: string;
  readonly stream: "stdout" | "stderr";
  readonly partial: boolean;
  readonly text: Buffer;
}

/** One record without its newline; undefined when it is none (a torn write after a power cut, say). */
export function parseLogRecord(record: Buffer): LogRecord | undefined {
  const timeEnd = record.indexOf(0x20);
  const streamEnd = record.indexOf(0x20, timeEnd + 1);
  if (timeEnd <= 0 || streamEnd < 0) return undefined;
  const stream = record.toString("latin1", timeEnd + 1, streamEnd);
  if (stream !== "stdout" && stream !== "stderr") return undefined;
  const tagEnd = record.indexOf(0x20, streamEnd + 1);
  const tag = record.toString("latin1", streamEnd + 1, tagEnd < 0 ? record.length : tagEnd);
  const [first] = tag.split(":");
  if (first !== "F" && first !== "P") return undefined;
  return {
    time: record.toString("latin1", 0, timeEnd),
    stream,
    partial: first === "P",
    text: tagEnd < 0 ? Buffer.alloc(0) : record.subarray(tagEnd + 1),
  };
}

/** A container that never writes a newline must not take the agent's memory: longer lines come in pieces. */
const MAX_LINE_BYTES = 1024 * 1024;

interface Pending {
  time: string;
  readonly parts: Buffer[];
  sizeBytes: number;
}

/** Joins bytes of a log into lines. Bytes may be cut anywhere. */
export class LogLineParser {
  readonly #pieces: boolean;
  #rest: Buffer = Buffer.alloc(0);
  readonly #pending = new Map<"stdout" | "stderr", Pending>();

  /** @param pieces give parts of lines as they were written, without waiting for the rest: prompts are such */
  constructor(pieces = false) {
    this.#pieces = pieces;
  }

  /** The lines that end in this chunk. */
  push(chunk: Buffer): LogLine[] {
    const data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const lines: LogLine[] = [];
    let from = 0;
    for (let end = data.indexOf(0x0a); end >= 0; end = data.indexOf(0x0a, from)) {
      const record = parseLogRecord(data.subarray(from, end));
      if (record !== undefined) this.#join(record, lines);
      from = end + 1;
    }
    this.#rest = Buffer.from(data.subarray(from));
    return lines;
  }

  /** What is left when no more will come: parts whose end was never written. */
  finish(): LogLine[] {
    this.#rest = Buffer.alloc(0);
    const lines = [...this.#pending].map(([stream, pending]) => toLine(stream, pending, false));
    this.#pending.clear();
    return lines;
  }

  #join(record: LogRecord, lines: LogLine[]): void {
    const pending = this.#pending.get(record.stream) ?? { time: record.time, parts: [], sizeBytes: 0 };
    pending.parts.push(record.text);
    pending.sizeBytes += record.text.length;
    const full = record.partial && (this.#pieces || pending.sizeBytes >= MAX_LINE_BYTES);
    if (record.partial && !full) {
      this.#pending.set(record.stream, pending);
      return;
    }
    this.#pending.delete(record.stream);
    lines.push(toLine(record.stream, pending, !record.partial));
  }
}

function toLine(stream: "stdout" | "stderr", pending: Pending, complete: boolean): LogLine {
  const { time, parts } = pending;
  const text = parts.length === 1 ? Buffer.from(parts[0]!) : Buffer.concat(parts);
  return { time, atMs: Date.parse(time), stream, text, complete };
}
