/** The content store on disk: files by digest beneath one root, rows in the agent's metadata. See `content.ts`. */
import { open, rm, stat } from "node:fs/promises";
import {
  digestAlgorithm,
  KeyedLock,
  silentLogger,
  systemClock,
  type Clock,
  type Digest,
  type Logger,
} from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { openBlobReader } from "./blob-reader.ts";
import type {
  BlobInfo,
  BlobReader,
  ContentStore,
  IngestStatus,
  IngestWriter,
  Labels,
  WriterOptions,
} from "./content.ts";
import {
  checkNamespace,
  checkRef,
  contentExists,
  contentMissing,
  contentTooLarge,
  ingestDiffers,
  ingestLocked,
  ingestMissing,
  storeClosed,
} from "./errors.ts";
import { Hasher } from "./hasher.ts";
import { FileIngestWriter, ingestStatus } from "./ingest-writer.ts";
import { IngestClaims } from "./ingest-claims.ts";
import { fileError, fileSize, INGEST_MODE, isMissing, Layout, type SyncPolicy } from "./layout.ts";
import { dropStaleIngests, recover, type RecoverDeps, type RecoveryReport } from "./recover.ts";
import * as sql from "./rows.ts";

export interface ContentStoreDeps {
  /** The folder that holds `blobs/` and `ingest/`. One store at a time may use it. */
  readonly root: string;
  /** Opened with `contentMigrations` among its migrations. */
  readonly metadata: Metadata;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface ContentStoreConfig {
  readonly syncPolicy?: SyncPolicy;
  /** How long an ingest that nobody writes to is kept for a resume. */
  readonly ingestTtlMs?: number;
}

export type Verification =
  | { readonly ok: true; readonly sizeBytes: number }
  | { readonly ok: false; readonly actual: Digest | undefined; readonly sizeBytes: number };

export interface FileContentStore extends ContentStore {
  /** Makes rows and files agree again; to be called once at start, before the store is used much. */
  recover(): Promise<RecoveryReport>;
  /** Drops the ingests nobody has written to for `ingestTtlMs`, and says how many. */
  dropExpiredIngests(): Promise<number>;
  /** Reads the whole file of a blob again. @throws NOT_FOUND when no namespace has it. */
  verify(digest: Digest): Promise<Verification>;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const WALK_PAGE = 200;
/** Manifests and configs are far smaller; registries refuse manifests above 4 MiB. */
const READ_ALL_MAX_BYTES = 8 * 1024 * 1024;

export async function openContentStore(
  deps: ContentStoreDeps,
  config: ContentStoreConfig = {},
): Promise<FileContentStore> {
  const layout = new Layout(deps.root, config.syncPolicy ?? "full");
  await layout.create().catch((error: unknown) => {
    throw fileError(error, `content store "${deps.root}"`);
  });
  return new DiskContentStore(deps, layout, config.ingestTtlMs ?? DAY_MS);
}

class DiskContentStore implements FileContentStore {
  readonly #metadata: Metadata;
  readonly #rows: sql.ContentRows;
  readonly #layout: Layout;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #ingestTtlMs: number;
  readonly #blobLocks = new KeyedLock();
  readonly #hasher = new Hasher();
  /** Invariant 2. */
  readonly #claims = new IngestClaims();
  readonly #writers = new Set<AsyncDisposable>();
  #disposed: Promise<void> | undefined;

  constructor(deps: ContentStoreDeps, layout: Layout, ingestTtlMs: number) {
    this.#metadata = deps.metadata;
    this.#rows = new sql.ContentRows(deps.metadata);
    this.#layout = layout;
    this.#clock = deps.clock ?? systemClock;
    this.#logger = deps.logger ?? silentLogger;
    this.#ingestTtlMs = ingestTtlMs;
  }

  async info(namespace: string, digest: Digest): Promise<BlobInfo> {
    const info = this.#find(namespace, digest);
    if (info === undefined) throw contentMissing(namespace, digest);
    return info;
  }

  async has(namespace: string, digest: Digest): Promise<boolean> {
    return this.#find(namespace, digest) !== undefined;
  }

  async update(namespace: string, digest: Digest, labels: Labels): Promise<BlobInfo> {
    this.#checkOpen();
    const otherwise = contentMissing(namespace, digest);
    await this.#metadata.transact([sql.updateLabels(namespace, digest, labels, this.#clock.nowMs(), otherwise)]);
    return await this.info(namespace, digest);
  }

  async *walk(namespace: string): AsyncIterable<BlobInfo> {
    for (let after = ""; ;) {
      this.#checkOpen();
      const page = this.#rows.page(namespace, after, WALK_PAGE);
      yield* page;
      const last = page.at(-1);
      if (last === undefined || page.length < WALK_PAGE) return;
      after = last.digest;
    }
  }

  async delete(namespace: string, digest: Digest): Promise<void> {
    this.#checkOpen();
    await this.#blobLocks.run(digest, async () => {
      const deletion = [sql.deleteRef(namespace, digest, contentMissing(namespace, digest)), sql.markDead(digest)];
      const [, dead] = await this.#metadata.transact(deletion);
      if (dead?.changes !== 1) return;
      await rm(this.#layout.blobPath(digest), { force: true });
      await this.#metadata.transact([sql.deleteDead(digest)]);
    });
  }

  async reader(namespace: string, digest: Digest): Promise<BlobReader> {
    const { sizeBytes } = await this.info(namespace, digest);
    try {
      return await openBlobReader(this.#layout.blobPath(digest), digest, sizeBytes);
    } catch (error) {
      // Deleted meanwhile, perhaps: then it is not lost but missing.
      await this.info(namespace, digest);
      throw error;
    }
  }

  async readAll(namespace: string, digest: Digest, maxBytes = READ_ALL_MAX_BYTES): Promise<Uint8Array> {
    await using reader = await this.reader(namespace, digest);
    if (reader.sizeBytes > maxBytes) throw contentTooLarge(digest, reader.sizeBytes, maxBytes);
    return await reader.read(0, reader.sizeBytes);
  }

  async path(namespace: string, digest: Digest): Promise<string> {
    await this.info(namespace, digest);
    return this.#layout.blobPath(digest);
  }

  async writer(namespace: string, options: WriterOptions): Promise<IngestWriter> {
    this.#checkOpen();
    checkNamespace(namespace);
    checkRef(options.ref);
    const release = this.#claim(namespace, options.ref);
    try {
      if (options.expected !== undefined && (await this.has(namespace, options.expected))) {
        throw contentExists(namespace, options.expected);
      }
      return await this.#openWriter(namespace, options, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  async status(namespace: string, ref: string): Promise<IngestStatus> {
    this.#checkOpen();
    const row = this.#rows.ingest(namespace, ref);
    const status = row === undefined ? undefined : await this.#statusOf(row);
    if (status === undefined) throw ingestMissing(namespace, ref);
    return status;
  }

  async listStatuses(namespace: string): Promise<readonly IngestStatus[]> {
    this.#checkOpen();
    const statuses = await Promise.all(this.#rows.ingests(namespace).map((row) => this.#statusOf(row)));
    return statuses.filter((status) => status !== undefined);
  }

  async abort(namespace: string, ref: string): Promise<void> {
    this.#checkOpen();
    const release = this.#claim(namespace, ref);
    try {
      if (this.#rows.ingest(namespace, ref) === undefined) throw ingestMissing(namespace, ref);
      await this.#dropIngest(namespace, ref);
    } finally {
      release();
    }
  }

  async physical(digest: Digest): Promise<number | undefined> {
    this.#checkOpen();
    const row = this.#rows.blob(digest);
    return row?.state === "live" ? row.sizeBytes : undefined;
  }

  async share(namespace: string, digest: Digest, labels: Labels = {}): Promise<BlobInfo> {
    this.#checkOpen();
    checkNamespace(namespace);
    const required = sql.requireLive(digest, contentMissing(namespace, digest));
    await this.#metadata.transact([required, sql.insertRef(namespace, digest, labels, this.#clock.nowMs())]);
    return await this.info(namespace, digest);
  }

  async totals(): Promise<{ readonly blobs: number; readonly sizeBytes: number }> {
    this.#checkOpen();
    return this.#rows.totals();
  }

  async recover(): Promise<RecoveryReport> {
    this.#checkOpen();
    const report = await recover(this.#recoverDeps(), this.#clock.nowMs() - this.#ingestTtlMs);
    for (const { digest, what, namespaces } of report.lost) {
      this.#logger.error({ digest, what, namespaces }, "a committed blob was lost; its references are dropped");
    }
    return report;
  }

  async dropExpiredIngests(): Promise<number> {
    this.#checkOpen();
    return await dropStaleIngests(this.#recoverDeps(), this.#clock.nowMs() - this.#ingestTtlMs);
  }

  async verify(digest: Digest): Promise<Verification> {
    this.#checkOpen();
    const row = this.#rows.blob(digest);
    if (row?.state !== "live") throw contentMissing("*", digest);
    const path = this.#layout.blobPath(digest);
    const size = await fileSize(path);
    if (size === undefined) return { ok: false, actual: undefined, sizeBytes: 0 };
    const actual = await this.#hasher.hash(path, size, digestAlgorithm(digest));
    if (actual.digest === digest) return { ok: true, sizeBytes: actual.sizeBytes };
    return { ok: false, actual: actual.digest, sizeBytes: actual.sizeBytes };
  }

  /** Ends every writer (what it wrote stays for a resume) and the hash threads. Readers belong to who opened them. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed ??= this.#close();
    return this.#disposed;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#writers].map((writer) => writer[Symbol.asyncDispose]()));
    await this.#hasher[Symbol.asyncDispose]();
  }

  #recoverDeps(): RecoverDeps {
    return {
      layout: this.#layout,
      metadata: this.#metadata,
      rows: this.#rows,
      blobLocks: this.#blobLocks,
      claims: this.#claims,
    };
  }

  #find(namespace: string, digest: Digest): BlobInfo | undefined {
    this.#checkOpen();
    return this.#rows.info(namespace, digest);
  }

  async #openWriter(namespace: string, options: WriterOptions, release: () => void): Promise<IngestWriter> {
    const row = await this.#beginIngest(namespace, options);
    await this.#layout.createIngest(namespace, options.ref);
    const file = await open(this.#layout.ingestData(namespace, options.ref), "a", INGEST_MODE).catch(
      (error: unknown) => {
        throw fileError(error, `ingest "${options.ref}"`);
      },
    );
    const writer: FileIngestWriter = new FileIngestWriter(
      {
        layout: this.#layout,
        metadata: this.#metadata,
        rows: this.#rows,
        blobLocks: this.#blobLocks,
        hasher: this.#hasher,
        clock: this.#clock,
        release: () => {
          this.#writers.delete(writer);
          release();
        },
      },
      row,
      file,
    );
    this.#writers.add(writer);
    return writer;
  }

  /** The row comes before the folder, so that a folder without a row is always a leftover. */
  async #beginIngest(namespace: string, { ref, totalBytes, expected }: WriterOptions): Promise<sql.IngestRow> {
    const before = this.#rows.ingest(namespace, ref);
    if (before === undefined) {
      const row = { namespace, ref, totalBytes: totalBytes ?? 0, expected, startedAtMs: this.#clock.nowMs() };
      await this.#metadata.transact([sql.insertIngest(row)]);
      return row;
    }
    if (totalBytes && before.totalBytes !== 0 && before.totalBytes !== totalBytes) throw ingestDiffers(ref, "size");
    if (expected && before.expected && before.expected !== expected) throw ingestDiffers(ref, "digest");
    const row = {
      ...before,
      totalBytes: before.totalBytes || (totalBytes ?? 0),
      expected: before.expected ?? expected,
    };
    if (row.totalBytes !== before.totalBytes || row.expected !== before.expected) {
      await this.#metadata.transact([sql.updateIngest(row)]);
    }
    return row;
  }

  async #dropIngest(namespace: string, ref: string): Promise<void> {
    await this.#metadata.transact([sql.deleteIngest(namespace, ref)]);
    await this.#layout.removeIngest(namespace, ref);
  }

  /** Undefined when the ingest has ended meanwhile. */
  async #statusOf(row: sql.IngestRow): Promise<IngestStatus | undefined> {
    try {
      return ingestStatus(row, await stat(this.#layout.ingestData(row.namespace, row.ref)));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw fileError(error, `ingest "${row.ref}"`);
    }
  }

  #claim(namespace: string, ref: string): () => void {
    const release = this.#claims.tryClaim(this.#layout.ingestName(namespace, ref));
    if (release === undefined) throw ingestLocked(namespace, ref);
    return release;
  }

  #checkOpen(): void {
    if (this.#disposed !== undefined) throw storeClosed();
  }
}
