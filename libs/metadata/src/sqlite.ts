/**
 * What both kinds of connection share: how the file is opened, how statements are kept prepared, how integers come out.
 *
 * Runs in the writer thread too, so it imports nothing but node builtins: a worker that loads little starts fast.
 */
import { hash } from "node:crypto";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { SqlRow, SqlValue } from "./metadata.ts";

/** How long the writer waits for another process (a backup tool, `sqlite3`) that holds a lock. */
const WRITER_BUSY_TIMEOUT_MS = 5_000;
/** Readers block the event loop while they wait; in WAL mode they have to only while a crashed file is being recovered. */
const READER_BUSY_TIMEOUT_MS = 1_000;
/** What a burst of writes may leave of the write-ahead log once it has been checkpointed. */
const WAL_SIZE_LIMIT_BYTES = 64 * 1024 * 1024;

export function openForWriting(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: WRITER_BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
  try {
    db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA journal_size_limit = ${WAL_SIZE_LIMIT_BYTES};
      PRAGMA trusted_schema = OFF;
      PRAGMA temp_store = MEMORY;
    `);
    db.function("sha256", { deterministic: true, directOnly: true, varargs: true }, sha256);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * `sha256(a, b, …)` in the SQL of a write: of texts, as UTF-8, and of bytes, one after the other. So what a row's hash is made
 * of can come from the rows that the same transaction sees.
 */
function sha256(...parts: readonly SqlValue[]): Uint8Array {
  const bytes = parts.map((part) => (part instanceof Uint8Array ? part : Buffer.from(String(part))));
  return hash("sha256", Buffer.concat(bytes), "buffer");
}

export function openForReading(path: string): DatabaseSync {
  return new DatabaseSync(path, { readOnly: true, timeout: READER_BUSY_TIMEOUT_MS });
}

/** Prepared statements by their text; the least recently used one leaves when there are more than `limit`. */
export class StatementCache {
  readonly #db: DatabaseSync;
  readonly #limit: number;
  readonly #statements = new Map<string, StatementSync>();

  constructor(db: DatabaseSync, limit: number) {
    this.#db = db;
    this.#limit = limit;
  }

  get size(): number {
    return this.#statements.size;
  }

  prepare(sql: string): StatementSync {
    const cached = this.#statements.get(sql);
    if (cached !== undefined) {
      // Which one was used last is of interest when one has to leave.
      if (this.#statements.size < this.#limit) return cached;
      this.#statements.delete(sql);
      this.#statements.set(sql, cached);
      return cached;
    }
    const statement = this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    if (this.#statements.size > this.#limit) {
      const oldest = this.#statements.keys().next();
      if (oldest.done !== true) this.#statements.delete(oldest.value);
    }
    return statement;
  }
}

type RawRow = Record<string, SqlValue>;

/**
 * Rows as plain objects, of a statement that reads integers as bigint: those that a number holds exactly become numbers.
 */
export function narrowRows(rows: readonly RawRow[]): SqlRow[] {
  return rows.map((row) => {
    const narrowed: SqlRow = {};
    for (const key in row) narrowed[key] = narrow(row[key]!);
    return narrowed;
  });
}

function narrow(value: SqlValue): SqlValue {
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Runs a query. Numbers are the fast path; a row with an integer beyond 2^53 makes node:sqlite throw, and is read again. */
export function query(statement: StatementSync, params: readonly SqlValue[]): SqlRow[] {
  try {
    return statement.all(...params).map((row) => ({ ...(row as RawRow) }));
  } catch (error) {
    if (!isOutOfRange(error)) throw error;
    statement.setReadBigInts(true);
    try {
      return narrowRows(statement.all(...params));
    } finally {
      statement.setReadBigInts(false);
    }
  }
}

function isOutOfRange(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === "ERR_OUT_OF_RANGE";
}
