/**
 * Space that metadata has for itself, so that a disk which others fill does not stop it from being told what they give back.
 *
 * Undoing a pull on a full disk needs rows: an ingest aborted, a snapshot removed, a task recorded as failed. Without space
 * for those rows the bytes stay, and nothing ever ends it. So the file keeps free pages, which new rows take first, and the
 * write-ahead log keeps its length, which a commit writes over: as long as both last, a commit needs no block of the disk.
 *
 * Invariants:
 *  1. Pages count as free only after they were written: SQLite leaves blocks of pages that one transaction makes and frees
 *     unallocated, so the filling is committed before it is dropped.
 *  2. Reserving never fails a start or a commit: what cannot be reserved now is tried again later.
 *
 * On a file system that copies on write (btrfs), writing over a block needs a new one; there the reserve helps less.
 */
import { statfsSync } from "node:fs";
import { dirname } from "node:path";
import type { DatabaseSync } from "node:sqlite";

/** Written in pieces, so that a commit never waits for all of it. */
const PIECE_BYTES = 1024 * 1024;
/** How often a thinned reserve is looked at. */
const LOOK_INTERVAL_MS = 10_000;
/** The reserve is made only where there is this many times as much. */
const ROOM_FACTOR = 4;

export class Headroom {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #bytes: number;
  #lookedMs = 0;

  /** @param bytes of free pages and of log; 0 keeps none */
  constructor(db: DatabaseSync, path: string, bytes: number) {
    this.#db = db;
    this.#path = path;
    this.#bytes = bytes;
  }

  /** Makes the whole reserve, the log's length included: once, before the file is used. */
  make(): void {
    if (this.#bytes === 0) return;
    this.#attempt(() => {
      this.#db.exec("DROP TABLE IF EXISTS metadata_headroom");
      if (this.#hasRoom()) this.#fill(this.#bytes);
    });
  }

  /** Restores what was used up, a piece at a time, if there is room again. Cheap; call it when there is nothing else to do. */
  restore(nowMs: number): void {
    if (this.#bytes === 0 || nowMs - this.#lookedMs < LOOK_INTERVAL_MS) return;
    this.#lookedMs = nowMs;
    this.#attempt(() => {
      const free = this.#pragma("freelist_count") * this.#pragma("page_size");
      if (free < this.#bytes - PIECE_BYTES && this.#hasRoom()) this.#fill(free + PIECE_BYTES);
    });
  }

  /** Takes the free pages there are, and new ones up to `bytes`; then frees them all. */
  #fill(bytes: number): void {
    this.#db.exec("CREATE TABLE metadata_headroom (filling BLOB NOT NULL)");
    try {
      const insert = this.#db.prepare("INSERT INTO metadata_headroom VALUES (zeroblob(?))");
      for (let filled = 0; filled < bytes; filled += PIECE_BYTES) insert.run(Math.min(PIECE_BYTES, bytes - filled));
    } finally {
      this.#db.exec("DROP TABLE metadata_headroom");
    }
  }

  #hasRoom(): boolean {
    const { bavail, bsize } = statfsSync(dirname(this.#path));
    return bavail * bsize >= ROOM_FACTOR * this.#bytes;
  }

  #pragma(name: "freelist_count" | "page_size"): number {
    return Number(this.#db.prepare(`PRAGMA ${name}`).get()![name]);
  }

  #attempt(step: () => void): void {
    try {
      step();
    } catch {
      // Another time; the disk may be full at this moment.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
    }
  }
}
