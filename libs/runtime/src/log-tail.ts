/** Finding where the last lines of a log begin, without reading all of it: backwards, block by block, over rotated files. */
import { open, type FileHandle } from "node:fs/promises";
import { parseLogRecord } from "./log-lines.ts";
import { numbered } from "./log-rotate.ts";

const BLOCK_BYTES = 64 * 1024;
/** Enough of a record to see its tag: time, stream, tag. */
const HEAD_BYTES = 128;

export interface TailPosition {
  /** Which rotated file to begin with; 0 is the current one. */
  readonly number: number;
  readonly offset: number;
  /** How many whole lines follow from there. */
  readonly lines: number;
}

/** A position from which at least `wanted` lines follow, or the beginning of the oldest file. */
export async function tailPosition(path: string, wanted: number): Promise<TailPosition> {
  let lines = 0;
  let best: TailPosition = { number: 0, offset: 0, lines: 0 };
  for (let number = 0; ; number += 1) {
    const found = await scanBackwards(numbered(path, number), wanted - lines);
    if (found === undefined) return best;
    lines += found.lines;
    best = { number, offset: found.offset, lines };
    if (lines >= wanted) return best;
  }
}

/** Counts line ends from the end of one file; stops after the record before the first wanted line. */
async function scanBackwards(path: string, wanted: number): Promise<{ offset: number; lines: number } | undefined> {
  const file = await open(path, "r").catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    let blockEnd = (await file.stat()).size;
    // The record being looked at ends here, before its newline; of its bytes beyond the block only the head is kept.
    let recordEnd = blockEnd;
    let head: Buffer = Buffer.alloc(0);
    let lines = 0;
    while (blockEnd > 0) {
      const blockStart = Math.max(0, blockEnd - BLOCK_BYTES);
      const block = await readBlock(file, blockStart, blockEnd - blockStart);
      let from = block.length;
      for (let at = block.lastIndexOf(0x0a); at >= 0; at = at === 0 ? -1 : block.lastIndexOf(0x0a, at - 1)) {
        if (endsLine(Buffer.concat([block.subarray(at + 1, from), head]))) {
          if (lines === wanted) return { offset: recordEnd + 1, lines };
          lines += 1;
        }
        [from, recordEnd, head] = [at, blockStart + at, Buffer.alloc(0)];
      }
      head = Buffer.concat([block.subarray(0, Math.min(from, HEAD_BYTES)), head]).subarray(0, HEAD_BYTES);
      blockEnd = blockStart;
    }
    if (!endsLine(head)) return { offset: 0, lines };
    return lines === wanted ? { offset: recordEnd + 1, lines } : { offset: 0, lines: lines + 1 };
  } finally {
    await file.close();
  }
}

async function readBlock(file: FileHandle, start: number, length: number): Promise<Buffer> {
  const block = Buffer.alloc(length);
  const { bytesRead } = await file.read(block, 0, length, start);
  return block.subarray(0, bytesRead);
}

function endsLine(record: Buffer): boolean {
  return parseLogRecord(record.subarray(0, HEAD_BYTES))?.partial === false;
}
