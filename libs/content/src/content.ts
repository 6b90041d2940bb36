/**
 * The contract of the content store: immutable blobs by digest, ingests that become blobs, and which namespace may see what.
 *
 * The story of a blob: `writer(ns, { ref })` opens (or resumes) an ingest; bytes are written through it, or by a worker
 * thread straight to `writer.dataPath`; `commit` checks size and digest and makes the bytes visible to `ns` under their
 * digest. One physical file per digest: a second namespace gets a reference row (`share`), once the caller has proven that
 * the tenant may read it (D7), or because the sharing policy says so (`grant`).
 *
 * An implementation need not have files: one behind a socket (containerd's proxy content plugins) has none. `capabilities`
 * says so, and whoever wants `path` or `dataPath` asks it first; everything else works without.
 *
 * A resumed ingest is hashed again from its first byte, once: Node cannot save the state of a hash, and bytes that lay on a
 * disk through a crash are not to be trusted unseen. Whoever fills `dataPath` in a worker hashes the kept bytes there, in the
 * pass that decompresses them anyway, and hands the result to `commit` as `computed`; they are then not read a second time.
 *
 * Invariants, proven for every implementation by `testing/conformance.ts`:
 *  1. A blob is committed only if its digest and size matched (A3).
 *  2. One writer per (namespace, ref); a second one gets UNAVAILABLE `INGEST_LOCKED`, which names the holder.
 *  3. What a row calls committed is on disk, whole, after a power cut: file fsync, rename, directory fsync, row (A2).
 *  4. A namespace sees only its own references, whatever else the store holds (D7). Under the policy `shared`, or for a blob
 *     of a namespace that is shareable, naming the digest is enough to get one; under `isolated` it never is.
 */
import type { Digest } from "@berth/base";

export type Labels = Readonly<Record<string, string>>;

/** containerd's content_sharing_policy. */
export type SharingPolicy = "isolated" | "shared";

export interface ContentCapabilities {
  /** Do `path` and `dataPath` name local files? Where not, they fail with UNIMPLEMENTED `CONTENT_NOT_ON_DISK`. */
  readonly files: boolean;
}

export interface BlobInfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly labels: Labels;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export interface IngestStatus {
  readonly ref: string;
  readonly offsetBytes: number;
  /** 0 when unknown. */
  readonly totalBytes: number;
  readonly expected?: Digest;
  readonly startedAtMs: number;
  readonly updatedAtMs: number;
  readonly labels: Labels;
  /** The lease that keeps it from expiring. */
  readonly lease?: string;
}

export interface WriterOptions {
  readonly ref: string;
  readonly totalBytes?: number;
  /** When the namespace already has it: ALREADY_EXISTS. */
  readonly expected?: Digest;
  /** Of the ingest, for lists; a resumed one keeps those it has and gets these too. */
  readonly labels?: Labels;
  /** Keeps the ingest as long as this lease lives; without one it expires when nobody has written to it for a day. */
  readonly lease?: string;
  /** Refuses to grow past this, beside the store's own limit. */
  readonly maxBytes?: number;
  /** Who writes, for the error that a second writer gets. */
  readonly holder?: string;
}

export interface ReadRange {
  readonly offset?: number;
  /** To the end, without it. */
  readonly length?: number;
  /** Of what is yielded at once. Default 256 KiB. */
  readonly chunkBytes?: number;
}

export interface CommitOptions {
  readonly sizeBytes?: number;
  readonly digest?: Digest;
  readonly labels?: Labels;
  /**
   * The sha256 that a worker thread computed over exactly the bytes in `dataPath` while it wrote them. Without it, commit
   * hashes the file (in a worker). Never pass what a registry claims: only what was computed here (A3).
   */
  readonly computed?: { readonly digest: Digest; readonly sizeBytes: number };
}

export interface IngestWriter extends AsyncDisposable {
  readonly ref: string;
  /** The file of this ingest, for a worker thread that appends to it. Only where `capabilities.files`. */
  readonly dataPath: string;
  status(): Promise<IngestStatus>;
  /** Appends. @throws RESOURCE_EXHAUSTED `INGEST_TOO_LARGE` or `CONTENT_DISK_FULL`: nothing of the chunk is kept. */
  write(chunk: Uint8Array): Promise<void>;
  /** Cuts back to `sizeBytes` (0 starts over). */
  truncate(sizeBytes: number): Promise<void>;
  /**
   * Makes the bytes a blob that the namespace sees, and ends the writer. Committing what the namespace already has
   * succeeds quietly.
   * @throws FAILED_PRECONDITION `CONTENT_DIGEST_MISMATCH` or `CONTENT_SIZE_MISMATCH`, RESOURCE_EXHAUSTED
   * `INGEST_TOO_LARGE`: nothing was committed, and the ingest's bytes are dropped, for they cannot become right.
   */
  commit(options: CommitOptions): Promise<BlobInfo>;
  /** Ends writing and gives the ref free; what was written stays for a later writer to resume. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface BlobReader extends AsyncDisposable {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Reads up to `length` bytes at `offset`; shorter only at the end. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /**
   * Yields a range piece by piece, each in memory of its own (it may be transferred to another thread). For bulk bytes a
   * worker thread opens `path` itself (A4); this is for clients that are served by the main loop, at their pace.
   */
  stream(range?: ReadRange): AsyncIterable<Uint8Array>;
}

export interface ContentStore extends AsyncDisposable {
  readonly capabilities: ContentCapabilities;
  /** @throws NOT_FOUND `CONTENT_MISSING` when this namespace has no reference, whatever the store holds. */
  info(namespace: string, digest: Digest): Promise<BlobInfo>;
  has(namespace: string, digest: Digest): Promise<boolean>;
  /**
   * Replaces the labels; with field paths (containerd's: `labels`, `labels.<key>`) only those named. A label that is empty
   * or not given is removed. @throws INVALID_ARGUMENT for another field path, or labels above containerd's limits.
   */
  update(namespace: string, digest: Digest, labels: Labels, fieldPaths?: readonly string[]): Promise<BlobInfo>;
  /**
   * In the order of the digests. @param filters containerd's expressions over `digest`, `size` and `labels.<key>`; any of
   * them may hold. @throws INVALID_ARGUMENT `FILTER_INVALID`, at once.
   */
  walk(namespace: string, filters?: readonly string[]): AsyncIterable<BlobInfo>;
  /** Drops this namespace's reference; the bytes go when no namespace has one left. */
  delete(namespace: string, digest: Digest): Promise<void>;
  reader(namespace: string, digest: Digest): Promise<BlobReader>;
  /** The whole blob, for manifests and configs. @throws RESOURCE_EXHAUSTED when it is larger than `maxBytes`. */
  readAll(namespace: string, digest: Digest, maxBytes?: number): Promise<Uint8Array>;
  /** Where a blob of this namespace lies, read-only, for worker threads. Only where `capabilities.files`. */
  path(namespace: string, digest: Digest): Promise<string>;
  /**
   * Begins or resumes an ingest. Where the policy lets the namespace have the expected blob, its status says at once that
   * all bytes are there, and `commit` takes them from the store; one that writes all the same gets an ingest like any other.
   * @throws UNAVAILABLE `INGEST_LOCKED`; ALREADY_EXISTS `CONTENT_EXISTS`; FAILED_PRECONDITION `INGEST_DIFFERS`;
   * RESOURCE_EXHAUSTED `INGEST_TOO_LARGE` when `totalBytes` is above a limit already.
   */
  writer(namespace: string, options: WriterOptions): Promise<IngestWriter>;
  status(namespace: string, ref: string): Promise<IngestStatus>;
  /** @param filters containerd's expressions over `ref`, `expected`, `lease` and `labels.<key>`; any of them may hold. */
  listStatuses(namespace: string, filters?: readonly string[]): Promise<readonly IngestStatus[]>;
  abort(namespace: string, ref: string): Promise<void>;
  /** Who holds ingests by which lease, for collection: those whose lease is gone are to be let go by `releaseLease`. */
  ingestLeases(): Promise<readonly { readonly namespace: string; readonly lease: string }[]>;
  /** Drops the ingests of a lease that has ended; one with a writer merely loses its lease. Says how many were dropped. */
  releaseLease(namespace: string, lease: string): Promise<number>;
  /**
   * Size of a blob that some namespace has, or undefined; with `label`, that one has with a label of this key, whatever its
   * value. Only for a caller that goes on to prove access (D7).
   */
  physical(digest: Digest, label?: string): Promise<number | undefined>;
  /** Gives `namespace` a reference to a blob the store holds; the caller has proven access. @throws NOT_FOUND. */
  share(namespace: string, digest: Digest, labels?: Labels): Promise<BlobInfo>;
  /**
   * Gives `namespace` a reference if the sharing policy lets it have the blob by naming it: under `shared` any that the store
   * holds, under `isolated` those of shareable namespaces. False if it does not, or there is none.
   */
  grant(namespace: string, digest: Digest, labels?: Labels): Promise<boolean>;
  /** Every digest some namespace refers to, with its size; for collection and doctoring. */
  totals(): Promise<{ readonly blobs: number; readonly sizeBytes: number }>;
}
