/**
 * The map of a GNU sparse 1.0 file: decimal lines at the start of the data, filled up to whole blocks. The first is the
 * number of runs; then come offset and length of each.
 */
import { invalidArchive, type SparseRun } from "./entry.ts";
import { BLOCK } from "./header.ts";
import { decimal, pairs } from "./pax.ts";

export class SparseMap {
  readonly #maxBytes: number;
  readonly #blocks: Buffer[] = [];
  #lines = 0;
  #wantLines: number | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of the archive that the map has taken so far. */
  get bytes(): number {
    return this.#blocks.length * BLOCK;
  }

  /** Takes the next block; gives the runs once the map is whole. */
  push(block: Buffer): readonly SparseRun[] | undefined {
    this.#blocks.push(Buffer.from(block));
    if (this.bytes > this.#maxBytes) throw invalidArchive("sparse map is too long");
    for (let at = block.indexOf(0x0a); at >= 0; at = block.indexOf(0x0a, at + 1)) this.#lines += 1;
    this.#wantLines ??= 1 + 2 * decimal(block.toString("latin1", 0, Math.max(0, block.indexOf(0x0a))), "sparse map");
    if (this.#lines < this.#wantLines) return undefined;
    const lines = Buffer.concat(this.#blocks).toString("latin1").split("\n");
    return pairs(lines.slice(1, this.#wantLines).map((line) => decimal(line, "sparse map")));
  }
}
