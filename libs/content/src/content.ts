/**
 * The contract of the content store: immutable blobs by digest, ingests that become blobs, and which namespace may see what.
 *
 * The story of a blob: `writer(ns, { ref })` opens (or resumes) an ingest; bytes are written through it, or by a worker
 * thread straight to `writer.dataPath`; `commit` checks size and digest and makes the bytes visible to `ns` under their
 * digest. One physical file per digest: a second namespace gets a reference row (`share`), once the caller has proven that
 * the tenant may read it (D7).
 *
 * Invariants, proven for every implementation by `testing/conformance.ts`:
 *  1. A blob is committed only if its digest and size matched (A3).
 *  2. One writer per (namespace, ref); a second one gets UNAVAILABLE `INGEST_LOCKED`.
 *  3. What a row calls committed is on disk, whole, after a power cut: file fsync, rename, directory fsync, row (A2).
 *  4. A namespace sees only its own references, whatever else the store holds (D7).
 */
import type { Digest } from "@berth/base";

export type Labels = Readonly<Record<string, string>>;

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
}

export interface WriterOptions {
  readonly ref: string;
  readonly totalBytes?: number;
  /** When the namespace already has it: ALREADY_EXISTS. */
  readonly expected?: Digest;
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
  /** The file of this ingest, for a worker thread that appends to it. */
  readonly dataPath: string;
  status(): Promise<IngestStatus>;
  /** Appends. */
  write(chunk: Uint8Array): Promise<void>;
  /** Cuts back to `sizeBytes` (0 starts over). */
  truncate(sizeBytes: number): Promise<void>;
  /**
   * Makes the bytes a blob that the namespace sees, and ends the writer. Committing what the namespace already has
   * succeeds quietly.
   * @throws FAILED_PRECONDITION `CONTENT_DIGEST_MISMATCH` or `CONTENT_SIZE_MISMATCH`: nothing was committed, and the
   * ingest's bytes are dropped, for they cannot become right.
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
}

export interface ContentStore extends AsyncDisposable {
  /** @throws NOT_FOUND `CONTENT_MISSING` when this namespace has no reference, whatever the store holds. */
  info(namespace: string, digest: Digest): Promise<BlobInfo>;
  has(namespace: string, digest: Digest): Promise<boolean>;
  /** Replaces the labels. */
  update(namespace: string, digest: Digest, labels: Labels): Promise<BlobInfo>;
  walk(namespace: string): AsyncIterable<BlobInfo>;
  /** Drops this namespace's reference; the bytes go when no namespace has one left. */
  delete(namespace: string, digest: Digest): Promise<void>;
  reader(namespace: string, digest: Digest): Promise<BlobReader>;
  /** The whole blob, for manifests and configs. @throws RESOURCE_EXHAUSTED when it is larger than `maxBytes`. */
  readAll(namespace: string, digest: Digest, maxBytes?: number): Promise<Uint8Array>;
  /** Where a blob of this namespace lies, read-only, for worker threads. */
  path(namespace: string, digest: Digest): Promise<string>;
  writer(namespace: string, options: WriterOptions): Promise<IngestWriter>;
  status(namespace: string, ref: string): Promise<IngestStatus>;
  listStatuses(namespace: string): Promise<readonly IngestStatus[]>;
  abort(namespace: string, ref: string): Promise<void>;
  /** Size of a blob that some namespace has, or undefined. Only for a caller that goes on to prove access (D7). */
  physical(digest: Digest): Promise<number | undefined>;
  /** Gives `namespace` a reference to a blob the store holds; the caller has proven access. @throws NOT_FOUND. */
  share(namespace: string, digest: Digest, labels?: Labels): Promise<BlobInfo>;
  /** Every digest some namespace refers to, with its size; for collection and doctoring. */
  totals(): Promise<{ readonly blobs: number; readonly sizeBytes: number }>;
}
