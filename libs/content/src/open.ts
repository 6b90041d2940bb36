/** The content store on disk: files by digest beneath one root, rows in the agent's metadata. See `content.ts`. */
import { open, rm } from "node:fs/promises";
import { hasCode, KeyedLock, silentLogger, systemClock, type Clock, type Digest, type Logger } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { openBlobReader } from "./blob-reader.ts";
import type {
  BlobInfo,
  BlobReader,
  ContentStore,
  IngestStatus,
  IngestWriter,
  Labels,
  SharingPolicy,
  WriterOptions,
} from "./content.ts";
import { checkNamespace, checkRef, contentExists, contentMissing, contentTooLarge, storeClosed } from "./errors.ts";
import { GrantedIngestWriter } from "./granted-writer.ts";
import { Hasher, type HashOptions } from "./hasher.ts";
import { IngestClaims } from "./ingest-claims.ts";
import { FileIngestWriter, type IngestWriterPolicy } from "./ingest-writer.ts";
import { ingestLimit, Ingests } from "./ingests.ts";
import { blobMatches, checkLabels, labelChange, parseFilters } from "./labels.ts";
import { fileError, INGEST_MODE, Layout, type SyncPolicy } from "./layout.ts";
import { dropStaleIngests, recover, type RecoverDeps, type RecoveryReport } from "./recover.ts";
import * as sql from "./rows.ts";
import { verifyBlob, type Verification } from "./verify-blob.ts";

export interface ContentStoreDeps {
  /** The folder that holds `blobs/` and `ingest/`. One store at a time may use it. */
  readonly root: string;
  /** Opened with `contentMigrations` among its migrations. */
  readonly metadata: Metadata;
  readonly clock?: Clock;
  readonly logger?: Logger;
  /**
   * May every namespace have the blobs of this one by naming them, whatever the policy? containerd asks the namespace's
   * label `containerd.io/namespace.shareable`. Default: none.
   */
  readonly shareable?: (namespace: string) => boolean;
}

export interface ContentStoreConfig {
  readonly syncPolicy?: SyncPolicy;
  /** How long an ingest that no lease holds and nobody writes to is kept for a resume. Default 24 h. */
  readonly ingestTtlMs?: number;
  /** The largest blob that may come in. Default: no limit but the disk's. */
  readonly maxIngestBytes?: number;
  /** Who gets a blob by naming it. Default `isolated`: nobody. */
  readonly sharing?: SharingPolicy;
}

export interface FileContentStore extends ContentStore {
  /** Makes rows and files agree again; to be called once at start, before the store is used much. */
  recover(): Promise<RecoveryReport>;
  /** Drops the unleased ingests nobody has written to for `ingestTtlMs`, and says how many. */
  dropExpiredIngests(): Promise<number>;
  /** Reads the whole file of a blob again. @throws NOT_FOUND when no namespace has it; CANCELLED. */
  verify(digest: Digest, options?: HashOptions): Promise<Verification>;
  /** A page of all that is held, whoever sees it, in the order of the digests. */
  held(after: Digest | "", limit: number): readonly sql.HeldBlob[];
  /** Who sees a blob. */
  namespacesOf(digest: Digest): readonly string[];
  /**
   * A writer whose commit takes the place of a damaged blob, for every namespace that sees it and at once. Readers that are
   * open keep what they opened. @throws NOT_FOUND unless the namespace has the blob.
   */
  mender(namespace: string, digest: Digest): Promise<IngestWriter>;
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
  return new DiskContentStore(deps, layout, config);
}

class DiskContentStore implements FileContentStore {
  readonly capabilities = { files: true };
  readonly #metadata: Metadata;
  readonly #rows: sql.ContentRows;
  readonly #layout: Layout;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #config: ContentStoreConfig;
  readonly #ingestTtlMs: number;
  readonly #shareable: (namespace: string) => boolean;
  readonly #ingests: Ingests;
  readonly #blobLocks = new KeyedLock();
  readonly #hasher = new Hasher();
  readonly #claims = new IngestClaims();
  readonly #writers = new Set<AsyncDisposable>();
  #disposed: Promise<void> | undefined;

  constructor(deps: ContentStoreDeps, layout: Layout, config: ContentStoreConfig) {
    this.#metadata = deps.metadata;
    this.#rows = new sql.ContentRows(deps.metadata);
    this.#layout = layout;
    this.#clock = deps.clock ?? systemClock;
    this.#logger = deps.logger ?? silentLogger;
    this.#config = config;
    this.#ingestTtlMs = config.ingestTtlMs ?? DAY_MS;
    this.#shareable = deps.shareable ?? (() => false);
    this.#ingests = new Ingests({
      layout,
      metadata: deps.metadata,
      rows: this.#rows,
      claims: this.#claims,
      clock: this.#clock,
    });
  }

  async info(namespace: string, digest: Digest): Promise<BlobInfo> {
    const info = this.#find(namespace, digest);
    if (info === undefined) throw contentMissing(namespace, digest);
    return info;
  }

  async has(namespace: string, digest: Digest): Promise<boolean> {
    return this.#find(namespace, digest) !== undefined;
  }

  async update(namespace: string, digest: Digest, labels: Labels, fieldPaths?: readonly string[]): Promise<BlobInfo> {
    this.#checkOpen();
    const change = labelChange(labels, fieldPaths);
    const otherwise = contentMissing(namespace, digest);
    await this.#metadata.transact([sql.updateLabels(namespace, digest, change, this.#clock.nowMs(), otherwise)]);
    return await this.info(namespace, digest);
  }

  walk(namespace: string, filters?: readonly string[]): AsyncIterable<BlobInfo> {
    return this.#walk(namespace, parseFilters(filters));
  }

  async *#walk(namespace: string, filters: ReturnType<typeof parseFilters>): AsyncIterable<BlobInfo> {
    for (let after = ""; ;) {
      this.#checkOpen();
      const page = this.#rows.page(namespace, after, WALK_PAGE);
      for (const info of page) if (blobMatches(filters, info)) yield info;
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
    const maxBytes = ingestLimit(this.#config.maxIngestBytes ?? Infinity, options);
    const { expected } = options;
    const release = this.#ingests.claim(namespace, options.ref, options.holder);
    try {
      if (expected !== undefined && (await this.has(namespace, expected))) throw contentExists(namespace, expected);
      const writer = await this.#openWriter(namespace, options, release, { maxBytes, replaces: false });
      const granted = expected === undefined ? undefined : this.#grantable(expected);
      return granted === undefined || (options.totalBytes ?? granted.sizeBytes) !== granted.sizeBytes
        ? writer
        : this.#grantedWriter(namespace, writer, granted);
    } catch (error) {
      release();
      throw error;
    }
  }

  async mender(namespace: string, digest: Digest): Promise<IngestWriter> {
    const { sizeBytes } = await this.info(namespace, digest);
    const options: WriterOptions = {
      ref: `mend-${digest}`,
      expected: digest,
      totalBytes: sizeBytes,
      holder: "a verification that mends",
    };
    const release = this.#ingests.claim(namespace, options.ref, options.holder);
    try {
      return await this.#openWriter(namespace, options, release, { maxBytes: Infinity, replaces: true });
    } catch (error) {
      release();
      throw error;
    }
  }

  async status(namespace: string, ref: string): Promise<IngestStatus> {
    this.#checkOpen();
    return await this.#ingests.status(namespace, ref);
  }

  async listStatuses(namespace: string, filters?: readonly string[]): Promise<readonly IngestStatus[]> {
    this.#checkOpen();
    return await this.#ingests.list(namespace, filters);
  }

  async abort(namespace: string, ref: string): Promise<void> {
    this.#checkOpen();
    await this.#ingests.abort(namespace, ref);
  }

  async ingestLeases(): Promise<readonly { readonly namespace: string; readonly lease: string }[]> {
    this.#checkOpen();
    return this.#rows.ingestLeases();
  }

  async releaseLease(namespace: string, lease: string): Promise<number> {
    this.#checkOpen();
    return await this.#ingests.releaseLease(namespace, lease);
  }

  async physical(digest: Digest, label?: string): Promise<number | undefined> {
    this.#checkOpen();
    const row = this.#rows.blob(digest);
    if (row?.state !== "live") return undefined;
    return label === undefined || this.#rows.bearsLabel(digest, label) ? row.sizeBytes : undefined;
  }

  async share(namespace: string, digest: Digest, labels: Labels = {}): Promise<BlobInfo> {
    this.#checkOpen();
    checkNamespace(namespace);
    checkLabels(labels);
    const required = sql.requireLive(digest, contentMissing(namespace, digest));
    await this.#metadata.transact([required, sql.insertRef(namespace, digest, labels, this.#clock.nowMs())]);
    return await this.info(namespace, digest);
  }

  async grant(namespace: string, digest: Digest, labels: Labels = {}): Promise<boolean> {
    this.#checkOpen();
    if (this.#grantable(digest) === undefined) return false;
    try {
      await this.share(namespace, digest, labels);
      return true;
    } catch (error) {
      // Deleted since.
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
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

  held(after: Digest | "", limit: number): readonly sql.HeldBlob[] {
    this.#checkOpen();
    return this.#rows.blobs(after, limit).filter(({ state }) => state === "live");
  }

  namespacesOf(digest: Digest): readonly string[] {
    this.#checkOpen();
    return this.#rows.namespacesOf(digest);
  }

  async verify(digest: Digest, options?: HashOptions): Promise<Verification> {
    this.#checkOpen();
    if (this.#rows.blob(digest)?.state !== "live") throw contentMissing("*", digest);
    return await verifyBlob(this.#hasher, this.#layout.blobPath(digest), digest, options);
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

  /** What the policy gives to whoever names this digest. */
  #grantable(digest: Digest): sql.BlobRow | undefined {
    const row = this.#rows.blob(digest);
    if (row?.state !== "live") return undefined;
    return this.#config.sharing === "shared" || this.#rows.holds(digest, this.#shareable) ? row : undefined;
  }

  #grantedWriter(namespace: string, writer: IngestWriter, { digest, sizeBytes }: sql.BlobRow): IngestWriter {
    const path = this.#layout.blobPath(digest);
    return new GrantedIngestWriter(writer, {
      digest,
      sizeBytes,
      take: async (labels) =>
        (await this.grant(namespace, digest, labels)) ? await this.info(namespace, digest) : undefined,
      async *bytes() {
        await using reader = await openBlobReader(path, digest, sizeBytes);
        yield* reader.stream();
      },
      drop: () => this.#ingests.abort(namespace, writer.ref),
    });
  }

  async #openWriter(
    namespace: string,
    options: WriterOptions,
    release: () => void,
    policy: IngestWriterPolicy,
  ): Promise<FileIngestWriter> {
    const row = await this.#ingests.begin(namespace, options);
    await this.#layout.createIngest(namespace, options.ref);
    const file = await open(this.#layout.ingestData(namespace, options.ref), "a", INGEST_MODE).catch(
      (error: unknown) => {
        throw fileError(error, `ingest "${options.ref}"`);
      },
    );
    const deps = {
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
    };
    const writer: FileIngestWriter = new FileIngestWriter(deps, row, file, policy);
    this.#writers.add(writer);
    return writer;
  }

  #checkOpen(): void {
    if (this.#disposed !== undefined) throw storeClosed();
  }
}
