/**
 * The calling thread's side of the metadata: posts transactions to the writer thread, reads on a connection of its own.
 *
 * Reads of one thread never overlap, for they are synchronous; one read-only connection is therefore all that is needed.
 */
import type { DatabaseSync } from "node:sqlite";
import { Worker } from "node:worker_threads";
import { abortReason, siblingModule, StatusError, throwIfAborted } from "@berth/base";
import { failureOf } from "./failure.ts";
import type { Metadata, Migration, SqlRow, SqlValue, Statement, StatementResult } from "./metadata.ts";
import { toStatusError } from "./status.ts";
import { backupMetadata } from "./inspect.ts";
import { openForReading, query, StatementCache } from "./sqlite.ts";
import { failureOfMember, Packer, unpackAnswers } from "./wire.ts";
import type { WriterInput, WriterReply, WriterRequest } from "./writer.ts";

export interface OpenMetadataOptions {
  /** The SQLite file; it and its folder are made if missing. */
  readonly path: string;
  /** The steps of every library that keeps rows here. */
  readonly migrations: readonly Migration[];
  /** Space of the disk to keep for rows, so that a full one can be told what was given back (headroom.ts). Default 0. */
  readonly headroomBytes?: number;
  /**
   * How long a transaction waits for others to go to the thread with it. Default 0: what one turn of the event loop asks for goes
   * together. More is for files that many write to, on a file system where a commit takes no time by itself.
   */
  readonly gatherMs?: number;
  /** Gives up opening. */
  readonly signal?: AbortSignal;
}

/** How much group commit saved: each commit is one fsync. */
export interface MetadataCounters {
  readonly transactions: number;
  readonly commits: number;
}

export interface OpenedMetadata extends Metadata {
  counters(): MetadataCounters;
}

const CACHED_QUERIES = 256;
const WRITER_THREAD = siblingModule("writer-thread", import.meta.url);

/**
 * Opens (or makes) the file and applies what migrations are missing.
 * @throws DATA_LOSS `METADATA_CORRUPT`; FAILED_PRECONDITION `METADATA_NEWER`, `METADATA_MIGRATION_CHANGED` or
 * `METADATA_UNOPENABLE`.
 */
export async function openMetadata(options: OpenMetadataOptions): Promise<OpenedMetadata> {
  throwIfAborted(options.signal);
  const input: WriterInput = {
    path: options.path,
    migrations: options.migrations.map(({ name, sql, additive }) => ({ name, sql, ...(additive && { additive }) })),
    headroomBytes: options.headroomBytes ?? 0,
  };
  const writer = new Worker(WRITER_THREAD, { workerData: input, name: "metadata-writer" });
  try {
    await writerOpened(writer, options.signal);
    return new SqliteMetadata(options.path, writer, options.gatherMs ?? 0);
  } catch (error) {
    await writer.terminate();
    throw error;
  }
}

function writerOpened(writer: Worker, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onMessage = (reply: WriterReply): void => {
    if (reply.kind === "refused") reject(toStatusError(reply.failure));
    else resolve();
  };
  const onError = (error: Error): void => reject(StatusError.from(error, "metadata writer"));
  const onExit = (): void => reject(new StatusError("INTERNAL", "metadata writer ended before it had opened the file"));
  const onAbort = (): void => reject(abortReason(signal!));
  writer.on("message", onMessage).on("error", onError).on("exit", onExit);
  signal?.addEventListener("abort", onAbort, { once: true });
  return promise.finally(() => {
    writer.off("message", onMessage).off("error", onError).off("exit", onExit);
    signal?.removeEventListener("abort", onAbort);
  });
}

interface Waiting {
  readonly statements: readonly Statement[];
  readonly resolve: (results: readonly StatementResult[]) => void;
  readonly reject: (error: StatusError) => void;
}

class SqliteMetadata implements OpenedMetadata {
  readonly #path: string;
  readonly #writer: Worker;
  readonly #gatherMs: number;
  readonly #writerEnded: Promise<void>;
  readonly #reader: DatabaseSync;
  readonly #queries: StatementCache;
  readonly #waiting = new Map<number, Waiting>();
  readonly #packer = new Packer();
  #lastId = 0;
  #transactions = 0;
  #commits = 0;
  #drained: (() => void) | undefined;
  #disposed: Promise<void> | undefined;
  #lost: StatusError | undefined;

  constructor(path: string, writer: Worker, gatherMs: number) {
    this.#gatherMs = gatherMs;
    this.#path = path;
    this.#reader = openForReading(path);
    this.#queries = new StatementCache(this.#reader, CACHED_QUERIES);
    this.#writer = writer;
    writer.on("message", (reply: WriterReply) => this.#onReply(reply));
    writer.on("error", (error) => this.#onLost(error));
    this.#writerEnded = new Promise((resolve) => {
      writer.on("exit", () => {
        this.#onLost(undefined);
        resolve();
      });
    });
  }

  transact(statements: readonly Statement[]): Promise<readonly StatementResult[]> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    if (this.#disposed !== undefined) return Promise.reject(this.#closed());
    const id = (this.#lastId += 1);
    const { promise, resolve, reject } = Promise.withResolvers<readonly StatementResult[]>();
    const isFirst = this.#packer.isEmpty;
    try {
      this.#packer.add(id, statements);
    } catch (error) {
      return Promise.reject(StatusError.from(error, "metadata: a parameter is no SQL value"));
    }
    this.#waiting.set(id, { statements, resolve, reject });
    if (isFirst) this.#flushSoon();
    return promise;
  }

  /** What is asked for in one turn of the event loop goes to the thread as one message: each costs more than what is in it. */
  #flushSoon(): void {
    if (this.#gatherMs > 0) setTimeout(() => this.#flush(), this.#gatherMs);
    else setImmediate(() => this.#flush());
  }

  #flush(): void {
    if (this.#packer.isEmpty || this.#lost !== undefined) return;
    const packed = this.#packer.take();
    this.#post({ kind: "transact", packed }, [packed.bytes.buffer]);
  }

  all(sql: string, ...params: SqlValue[]): SqlRow[] {
    if (!this.#reader.isOpen) throw this.#closed();
    try {
      return query(this.#queries.prepare(sql), params);
    } catch (error) {
      throw toStatusError(failureOf(error, this.#path), error);
    }
  }

  get(sql: string, ...params: SqlValue[]): SqlRow | undefined {
    return this.all(sql, ...params)[0];
  }

  async backup(path: string): Promise<void> {
    if (!this.#reader.isOpen) throw this.#closed();
    await backupMetadata(this.#path, path);
  }

  counters(): MetadataCounters {
    return { transactions: this.#transactions, commits: this.#commits };
  }

  /** Waits for every transaction that was asked for, then closes both connections. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#close();
    return this.#disposed;
  }

  async #close(): Promise<void> {
    this.#flush();
    if (this.#waiting.size > 0) await new Promise<void>((resolve) => (this.#drained = resolve));
    // The reader first: the last connection to close folds the write-ahead log into the file, and must be able to write.
    this.#reader.close();
    if (this.#lost === undefined) this.#post({ kind: "close" });
    await this.#writerEnded;
  }

  #post(request: WriterRequest, transfer: readonly ArrayBuffer[] = []): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#writer.postMessage(request, transfer);
  }

  #onReply(reply: WriterReply): void {
    if (reply.kind !== "answered") return;
    const answers = unpackAnswers(reply.answers);
    this.#transactions += answers.length;
    this.#commits += reply.commits;
    for (const answer of answers) {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ("results" in answer) waiting?.resolve(answer.results);
      else waiting?.reject(toStatusError(failureOfMember(answer.failure, waiting.statements)));
    }
    if (this.#waiting.size === 0) this.#drained?.();
  }

  /** The thread is gone. What it was asked for may or may not have happened. */
  #onLost(cause: unknown): void {
    this.#lost ??= new StatusError("UNAVAILABLE", `metadata "${this.#path}": the writer thread has ended`, {
      reason: "METADATA_WRITER_LOST",
      cause,
    });
    for (const waiting of this.#waiting.values()) waiting.reject(this.#lost);
    this.#waiting.clear();
    this.#drained?.();
  }

  #closed(): StatusError {
    return new StatusError("UNAVAILABLE", `metadata "${this.#path}" is closed`, { reason: "METADATA_CLOSED" });
  }
}
