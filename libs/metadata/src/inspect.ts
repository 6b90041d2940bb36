/**
 * Looking at the file from outside, also beside the agent that writes it: reading, checking, copying. Nothing here changes it:
 * no migration, no recovery beyond what every reader of a write-ahead log does.
 */
import { open as openFile, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { Worker } from "node:worker_threads";
import { siblingModule, StatusError } from "@berth/base";
import { failureOf } from "./failure.ts";
import type { InspectReply } from "./inspect-thread.ts";
import type { SqlRow, SqlValue } from "./metadata.ts";
import { openForReading, query } from "./sqlite.ts";
import { toStatusError } from "./status.ts";

const THREAD = siblingModule("inspect-thread", import.meta.url);
/** As many pages a step as `backup` takes. */
const ALL_PAGES = 0x7fffffff;

/** The reading half of `Metadata`. */
export interface MetadataReader {
  all(sql: string, ...params: SqlValue[]): SqlRow[];
  get(sql: string, ...params: SqlValue[]): SqlRow | undefined;
}

/** @throws NOT_FOUND `METADATA_MISSING`; DATA_LOSS `METADATA_CORRUPT`; FAILED_PRECONDITION `METADATA_UNOPENABLE` */
export async function readMetadata(path: string): Promise<MetadataReader & Disposable> {
  await assertThere(path);
  const db = reader(path);
  const all = (sql: string, ...params: SqlValue[]): SqlRow[] => {
    try {
      return query(db.prepare(sql), params);
    } catch (error) {
      throw toStatusError(failureOf(error, path), error);
    }
  };
  return { all, get: (sql, ...params) => all(sql, ...params)[0], [Symbol.dispose]: () => db.close() };
}

export interface MetadataCheck {
  /** What `PRAGMA integrity_check` finds; empty when all is well. */
  readonly damage: readonly string[];
  /** What `PRAGMA foreign_key_check` finds: rows that refer to rows that are not there. */
  readonly dangling: readonly string[];
}

/** Reads the whole file, in a thread of its own. @throws as {@link readMetadata} */
export async function checkMetadata(path: string): Promise<MetadataCheck> {
  await assertThere(path);
  const worker = new Worker(THREAD, { workerData: { path }, name: "metadata-inspect" });
  const { promise, resolve, reject } = Promise.withResolvers<InspectReply>();
  worker.on("message", resolve).on("error", (error) => reject(StatusError.from(error, `metadata "${path}"`)));
  worker.on("exit", () => reject(new StatusError("INTERNAL", `metadata "${path}": the checking thread has ended`)));
  try {
    const reply = await promise;
    if (reply.kind === "failed") throw toStatusError(reply.failure);
    return reply;
  } finally {
    await worker.terminate();
  }
}

/**
 * Writes a consistent copy to `target`, which must not exist; whoever writes the file goes on meanwhile.
 * @throws ALREADY_EXISTS; as {@link readMetadata}
 */
export async function backupMetadata(path: string, target: string): Promise<void> {
  await assertThere(path);
  const file = await openFile(target, "wx", 0o600).catch((error: unknown) => {
    throw StatusError.from(error, `metadata backup "${target}"`);
  });
  try {
    using source = reader(path);
    // All pages in one step, in a thread of the pool: one read transaction, so that writers neither wait nor restart it.
    await backup(source, target, { rate: ALL_PAGES });
    makeSingleFile(target);
    await file.sync();
    await fsyncDirectory(dirname(target));
  } catch (error) {
    await rm(target, { force: true });
    throw toStatusError(failureOf(error, target), error);
  } finally {
    await file.close();
  }
}

/** Without a write-ahead log: whoever merely looks at the copy leaves nothing beside it. Opening it as metadata brings it back. */
function makeSingleFile(path: string): void {
  using db = new DatabaseSync(path);
  db.exec("PRAGMA journal_mode = DELETE");
}

function reader(path: string): DatabaseSync {
  try {
    return openForReading(path);
  } catch (error) {
    throw toStatusError(failureOf(error, path), error);
  }
}

async function assertThere(path: string): Promise<void> {
  try {
    await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw StatusError.from(error, `metadata "${path}"`);
    throw new StatusError("NOT_FOUND", `metadata "${path}" is not there; is this the agent's data root?`, {
      reason: "METADATA_MISSING",
    });
  }
}

async function fsyncDirectory(directory: string): Promise<void> {
  await using handle = await openFile(directory, "r");
  await handle.sync();
}
