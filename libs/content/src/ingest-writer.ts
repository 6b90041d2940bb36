/**
 * One writer of one ingest: appends to its file, and makes the file a blob.
 *
 * The order of a commit is what keeps invariants 1 and 3 of `content.ts`: file fsync, digest checked, rename, directory
 * fsync, and only then the transaction that speaks of the blob. The digest's lock is held from before the rename until
 * after the transaction, so that a deletion of the same digest is wholly before or wholly after.
 */
import { chmod, rename, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { digestAlgorithm, StatusError, type Clock, type Digest, type KeyedLock } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import type { BlobInfo, CommitOptions, IngestStatus, IngestWriter } from "./content.ts";
import { checkNatural, contentMissing, digestMismatch, ingestEnded, ingestTooLarge, sizeMismatch } from "./errors.ts";
import type { Hashed, Hasher } from "./hasher.ts";
import { BLOB_MODE, fileError, fileSize, INGEST_MODE, type Layout } from "./layout.ts";
import { deleteIngest, insertBlob, insertRef, type ContentRows, type IngestRow } from "./rows.ts";

export interface IngestWriterDeps {
  readonly layout: Layout;
  readonly metadata: Metadata;
  readonly rows: ContentRows;
  readonly blobLocks: KeyedLock;
  readonly hasher: Hasher;
  readonly clock: Clock;
  /** Gives the ref free for the next writer. */
  readonly release: () => void;
}

export interface IngestWriterPolicy {
  readonly maxBytes: number;
  /** Puts the bytes in the place of those that the store has: what it has is known to be bad. */
  readonly replaces: boolean;
}

export class FileIngestWriter implements IngestWriter {
  readonly ref: string;
  readonly dataPath: string;
  readonly #deps: IngestWriterDeps;
  readonly #row: IngestRow;
  readonly #file: FileHandle;
  readonly #policy: IngestWriterPolicy;
  /** Calls apply one after another, in the order they were made. */
  #last: Promise<unknown> = Promise.resolve();
  #ended: Promise<void> | undefined;

  constructor(deps: IngestWriterDeps, row: IngestRow, file: FileHandle, policy: IngestWriterPolicy) {
    this.#policy = policy;
    this.#deps = deps;
    this.#row = row;
    this.#file = file;
    this.ref = row.ref;
    this.dataPath = deps.layout.ingestData(row.namespace, row.ref);
  }

  status(): Promise<IngestStatus> {
    return this.#next(async () => ingestStatus(this.#row, await this.#file.stat()));
  }

  write(chunk: Uint8Array): Promise<void> {
    return this.#next(() => this.#append(chunk));
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#next(async () => {
      const { size } = await this.#file.stat();
      checkNatural(`ingest "${this.ref}": size`, sizeBytes <= size ? sizeBytes : Number.NaN);
      await this.#file.truncate(sizeBytes);
    });
  }

  commit(options: CommitOptions): Promise<BlobInfo> {
    return this.#next(() => this.#commit(options));
  }

  /** Waits for the calls already made. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last.catch(() => undefined);
    await this.#end();
  }

  #next<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#last.then(async () => {
      if (this.#ended !== undefined) throw ingestEnded(this.ref);
      return await body();
    });
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** All or nothing: what a full disk took of the chunk is cut off again, so that writing it once more is right. */
  async #append(chunk: Uint8Array): Promise<void> {
    await this.#checkRoom(chunk.length);
    let written = 0;
    try {
      while (written < chunk.length) {
        const { bytesWritten } = await this.#file.write(chunk, written, chunk.length - written);
        written += bytesWritten;
      }
    } catch (error) {
      if (written > 0) await this.#file.truncate((await this.#file.stat()).size - written);
      throw fileError(error, `ingest "${this.ref}"`);
    }
  }

  async #checkRoom(moreBytes: number): Promise<void> {
    const { maxBytes } = this.#policy;
    if (maxBytes === Infinity) return;
    const { size } = await this.#file.stat();
    if (size + moreBytes > maxBytes) throw ingestTooLarge(this.ref, maxBytes);
  }

  async #commit(options: CommitOptions): Promise<BlobInfo> {
    const { layout } = this.#deps;
    await layout.syncFile(this.#file).catch((error: unknown) => {
      throw fileError(error, `ingest "${this.ref}"`);
    });
    const hashed = await this.#check(options);
    const info = await this.#deps.blobLocks.run(hashed.digest, () => this.#publish(hashed, options));
    // Before the ref is given free: the folder would be the next writer's.
    await layout.removeIngest(this.#row.namespace, this.ref);
    await this.#end();
    return info;
  }

  /** Invariant 1. Bytes that do not match can never become right, so they go. */
  async #check(options: CommitOptions): Promise<Hashed> {
    const { size } = await this.#file.stat();
    const wanted = [options.digest, this.#row.expected].filter((digest) => digest !== undefined);
    try {
      // Again here, for a worker that appended to the file asked nobody.
      if (size > this.#policy.maxBytes) throw ingestTooLarge(this.ref, this.#policy.maxBytes);
      if (options.sizeBytes !== undefined && options.sizeBytes !== size)
        throw sizeMismatch(this.ref, options.sizeBytes, size);
      const hashed = await this.#hash(size, options, wanted[0]);
      if (hashed.sizeBytes !== size) throw sizeMismatch(this.ref, hashed.sizeBytes, size);
      for (const digest of wanted) {
        if (digest !== hashed.digest) throw digestMismatch(this.ref, digest, hashed.digest);
      }
      return hashed;
    } catch (error) {
      if (isHopeless(error)) await this.#drop();
      throw error;
    }
  }

  async #hash(sizeBytes: number, options: CommitOptions, wanted: Digest | undefined): Promise<Hashed> {
    const algorithm = wanted === undefined ? "sha256" : digestAlgorithm(wanted);
    const { computed } = options;
    if (computed !== undefined && digestAlgorithm(computed.digest) === algorithm) return computed;
    return await this.#deps.hasher.hash(this.dataPath, sizeBytes, algorithm);
  }

  /** Runs with the digest's lock held. */
  async #publish(hashed: Hashed, options: CommitOptions): Promise<BlobInfo> {
    const { namespace, ref } = this.#row;
    const { metadata, rows, clock } = this.#deps;
    const moved = await this.#moveIntoPlace(hashed);
    try {
      await metadata.transact([
        insertBlob(hashed.digest, hashed.sizeBytes, clock.nowMs()),
        insertRef(namespace, hashed.digest, options.labels ?? {}, clock.nowMs()),
        deleteIngest(namespace, ref),
      ]);
    } catch (error) {
      if (moved) await this.#moveBack(hashed.digest);
      throw error;
    }
    const info = rows.info(namespace, hashed.digest);
    if (info === undefined) throw contentMissing(namespace, hashed.digest);
    return info;
  }

  /** False if the store holds the bytes already; those of this ingest then go with its folder. */
  async #moveIntoPlace({ digest, sizeBytes }: Hashed): Promise<boolean> {
    const { layout, rows } = this.#deps;
    const path = layout.blobPath(digest);
    const trusted = !this.#policy.replaces && rows.blob(digest)?.state === "live";
    if (trusted && (await fileSize(path)) === sizeBytes) return false;
    try {
      await chmod(this.dataPath, BLOB_MODE);
      await rename(this.dataPath, path);
      await layout.syncFolder(dirname(path));
      return true;
    } catch (error) {
      throw fileError(error, `ingest "${this.ref}"`);
    }
  }

  /** The rows could not be written (a full disk, say): the bytes are an ingest's again, and commit can be tried again. */
  async #moveBack(digest: Digest): Promise<void> {
    await rename(this.#deps.layout.blobPath(digest), this.dataPath);
    await chmod(this.dataPath, INGEST_MODE);
  }

  async #drop(): Promise<void> {
    const { namespace, ref } = this.#row;
    await this.#deps.metadata.transact([deleteIngest(namespace, ref)]);
    await this.#deps.layout.removeIngest(namespace, ref);
    await this.#end();
  }

  #end(): Promise<void> {
    this.#ended ??= this.#file.close().finally(() => this.#deps.release());
    return this.#ended;
  }
}

export function ingestStatus(row: IngestRow, file: { readonly size: number; readonly mtimeMs: number }): IngestStatus {
  return {
    ref: row.ref,
    offsetBytes: file.size,
    totalBytes: row.totalBytes,
    ...(row.expected === undefined ? {} : { expected: row.expected }),
    startedAtMs: row.startedAtMs,
    updatedAtMs: Math.max(row.startedAtMs, Math.floor(file.mtimeMs)),
    labels: row.labels,
    ...(row.lease === undefined ? {} : { lease: row.lease }),
  };
}

/** Bytes that no later commit can make right. */
function isHopeless(error: unknown): boolean {
  return error instanceof StatusError && HOPELESS.has(error.reason);
}

const HOPELESS: ReadonlySet<string> = new Set(["CONTENT_DIGEST_MISMATCH", "CONTENT_SIZE_MISMATCH", "INGEST_TOO_LARGE"]);
