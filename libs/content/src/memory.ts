/**
 * The content store in memory, for tests of what is built on it. It passes the same conformance suite; the one thing it
 * does not have is files: `path` and `dataPath` are UNIMPLEMENTED `CONTENT_NOT_ON_DISK`.
 */
import { createHash } from "node:crypto";
import { digestAlgorithm, StatusError, systemClock, type Clock, type Digest } from "@berth/base";
import type {
  BlobInfo,
  BlobReader,
  CommitOptions,
  ContentStore,
  IngestStatus,
  IngestWriter,
  Labels,
  SharingPolicy,
  WriterOptions,
} from "./content.ts";
import {
  checkNamespace,
  checkNatural,
  checkRef,
  contentExists,
  contentMissing,
  contentTooLarge,
  digestMismatch,
  ingestEnded,
  ingestLocked,
  ingestMissing,
  ingestTooLarge,
  sizeMismatch,
  storeClosed,
  type IngestHolder,
} from "./errors.ts";
import { GrantedIngestWriter } from "./granted-writer.ts";
import { ingestLimit, resumedIngest } from "./ingests.ts";
import { applyChange, blobMatches, checkLabels, ingestMatches, labelChange, parseFilters } from "./labels.ts";
import { streamRange } from "./stream-range.ts";

interface Ingest {
  readonly ref: string;
  readonly startedAtMs: number;
  totalBytes: number;
  expected: Digest | undefined;
  labels: Labels;
  lease: string | undefined;
  bytes: Buffer;
  updatedAtMs: number;
  writer: IngestHolder | undefined;
}

export interface MemoryContentConfig {
  readonly clock?: Clock;
  readonly sharing?: SharingPolicy;
  readonly shareable?: (namespace: string) => boolean;
  readonly maxIngestBytes?: number;
}

const READ_ALL_MAX_BYTES = 8 * 1024 * 1024;

export class MemoryContentStore implements ContentStore {
  readonly capabilities = { files: false };
  readonly #clock: Clock;
  readonly #config: MemoryContentConfig;
  readonly #blobs = new Map<Digest, Buffer>();
  /** Keys are `namespace/digest` and `namespace/ref`; a namespace holds no slash. */
  readonly #refs = new Map<string, BlobInfo>();
  readonly #ingests = new Map<string, Ingest>();
  #closed = false;

  constructor(config: MemoryContentConfig = {}) {
    this.#config = config;
    this.#clock = config.clock ?? systemClock;
  }

  async info(namespace: string, digest: Digest): Promise<BlobInfo> {
    this.#checkOpen();
    const info = this.#refs.get(`${namespace}/${digest}`);
    if (info === undefined) throw contentMissing(namespace, digest);
    return info;
  }

  async has(namespace: string, digest: Digest): Promise<boolean> {
    this.#checkOpen();
    return this.#refs.has(`${namespace}/${digest}`);
  }

  async update(namespace: string, digest: Digest, labels: Labels, fieldPaths?: readonly string[]): Promise<BlobInfo> {
    const change = labelChange(labels, fieldPaths);
    const before = await this.info(namespace, digest);
    const info = { ...before, labels: applyChange(before.labels, change), updatedAtMs: this.#clock.nowMs() };
    this.#refs.set(`${namespace}/${digest}`, info);
    return info;
  }

  walk(namespace: string, filters?: readonly string[]): AsyncIterable<BlobInfo> {
    return this.#walk(namespace, parseFilters(filters));
  }

  async *#walk(namespace: string, filters: ReturnType<typeof parseFilters>): AsyncIterable<BlobInfo> {
    this.#checkOpen();
    const keys = [...this.#refs.keys()].filter((key) => key.startsWith(`${namespace}/`)).sort();
    for (const key of keys) {
      const info = this.#refs.get(key);
      if (info !== undefined && blobMatches(filters, info)) yield info;
    }
  }

  async delete(namespace: string, digest: Digest): Promise<void> {
    await this.info(namespace, digest);
    this.#refs.delete(`${namespace}/${digest}`);
    if (![...this.#refs.values()].some((info) => info.digest === digest)) this.#blobs.delete(digest);
  }

  async reader(namespace: string, digest: Digest): Promise<BlobReader> {
    const { sizeBytes } = await this.info(namespace, digest);
    const bytes = this.#blobs.get(digest)!;
    const reader: BlobReader = {
      digest,
      sizeBytes,
      stream(range) {
        return streamRange(reader, range);
      },
      async read(offset, length) {
        checkNatural(`content ${digest}: offset`, offset);
        checkNatural(`content ${digest}: length`, length);
        return Uint8Array.from(bytes.subarray(offset, offset + length));
      },
      async [Symbol.asyncDispose]() {},
    };
    return reader;
  }

  async readAll(namespace: string, digest: Digest, maxBytes = READ_ALL_MAX_BYTES): Promise<Uint8Array> {
    const { sizeBytes } = await this.info(namespace, digest);
    if (sizeBytes > maxBytes) throw contentTooLarge(digest, sizeBytes, maxBytes);
    return Uint8Array.from(this.#blobs.get(digest)!);
  }

  async path(namespace: string, digest: Digest): Promise<string> {
    await this.info(namespace, digest);
    throw notOnDisk();
  }

  async writer(namespace: string, options: WriterOptions): Promise<IngestWriter> {
    this.#checkOpen();
    checkNamespace(namespace);
    checkRef(options.ref);
    checkLabels(options.labels ?? {});
    const { ref, expected, holder } = options;
    const maxBytes = ingestLimit(this.#config.maxIngestBytes ?? Infinity, options);
    const key = `${namespace}/${ref}`;
    const before = this.#ingests.get(key);
    if (before?.writer !== undefined) throw ingestLocked(namespace, ref, before.writer);
    if (expected !== undefined && this.#refs.has(`${namespace}/${expected}`)) throw contentExists(namespace, expected);
    const ingest = before === undefined ? this.#begin(options) : Object.assign(before, resumedIngest(before, options));
    this.#ingests.set(key, ingest);
    ingest.writer = { holder, sinceMs: this.#clock.nowMs() };
    const writer = new MemoryIngestWriter(ingest, this.#clock, maxBytes, {
      publish: (digest, labels) => this.#publish(namespace, digest, ingest.bytes, labels),
      drop: () => this.#ingests.delete(key),
    });
    const bytes = expected === undefined ? undefined : this.#grantable(expected);
    if (bytes === undefined || (options.totalBytes ?? bytes.length) !== bytes.length) return writer;
    return this.#grantedWriter(namespace, writer, expected!, bytes);
  }

  async status(namespace: string, ref: string): Promise<IngestStatus> {
    this.#checkOpen();
    const ingest = this.#ingests.get(`${namespace}/${ref}`);
    if (ingest === undefined) throw ingestMissing(namespace, ref);
    return statusOf(ingest);
  }

  async listStatuses(namespace: string, filters?: readonly string[]): Promise<readonly IngestStatus[]> {
    this.#checkOpen();
    const wanted = parseFilters(filters);
    const keys = [...this.#ingests.keys()].filter((key) => key.startsWith(`${namespace}/`)).sort();
    return keys.map((key) => statusOf(this.#ingests.get(key)!)).filter((status) => ingestMatches(wanted, status));
  }

  async abort(namespace: string, ref: string): Promise<void> {
    this.#checkOpen();
    const ingest = this.#ingests.get(`${namespace}/${ref}`);
    if (ingest === undefined) throw ingestMissing(namespace, ref);
    if (ingest.writer !== undefined) throw ingestLocked(namespace, ref, ingest.writer);
    this.#ingests.delete(`${namespace}/${ref}`);
  }

  async ingestLeases(): Promise<readonly { readonly namespace: string; readonly lease: string }[]> {
    this.#checkOpen();
    const found = new Map<string, { namespace: string; lease: string }>();
    for (const [key, { lease }] of this.#ingests) {
      const namespace = key.slice(0, key.indexOf("/"));
      if (lease !== undefined) found.set(`${namespace}/${lease}`, { namespace, lease });
    }
    return [...found.keys()].sort().map((key) => found.get(key)!);
  }

  async releaseLease(namespace: string, lease: string): Promise<number> {
    this.#checkOpen();
    let dropped = 0;
    for (const [key, ingest] of this.#ingests) {
      if (!key.startsWith(`${namespace}/`) || ingest.lease !== lease) continue;
      ingest.lease = undefined;
      if (ingest.writer === undefined && this.#ingests.delete(key)) dropped += 1;
    }
    return dropped;
  }

  async physical(digest: Digest, label?: string): Promise<number | undefined> {
    this.#checkOpen();
    const hasIt = [...this.#refs].filter(([key]) => key.endsWith(`/${digest}`));
    if (label !== undefined && !hasIt.some(([, { labels }]) => label in labels)) return undefined;
    return this.#blobs.get(digest)?.length;
  }

  async share(namespace: string, digest: Digest, labels: Labels = {}): Promise<BlobInfo> {
    this.#checkOpen();
    checkNamespace(namespace);
    checkLabels(labels);
    const bytes = this.#blobs.get(digest);
    if (bytes === undefined) throw contentMissing(namespace, digest);
    return this.#publish(namespace, digest, bytes, labels);
  }

  async grant(namespace: string, digest: Digest, labels: Labels = {}): Promise<boolean> {
    this.#checkOpen();
    if (this.#grantable(digest) === undefined) return false;
    await this.share(namespace, digest, labels);
    return true;
  }

  async totals(): Promise<{ readonly blobs: number; readonly sizeBytes: number }> {
    this.#checkOpen();
    const sizeBytes = [...this.#blobs.values()].reduce((sum, bytes) => sum + bytes.length, 0);
    return { blobs: this.#blobs.size, sizeBytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
  }

  #grantable(digest: Digest): Buffer | undefined {
    const { sharing, shareable = () => false } = this.#config;
    const holders = [...this.#refs.keys()].filter((key) => key.endsWith(`/${digest}`));
    const may = sharing === "shared" || holders.some((key) => shareable(key.slice(0, key.indexOf("/"))));
    return may ? this.#blobs.get(digest) : undefined;
  }

  #grantedWriter(namespace: string, writer: IngestWriter, digest: Digest, bytes: Buffer): IngestWriter {
    return new GrantedIngestWriter(writer, {
      digest,
      sizeBytes: bytes.length,
      take: async (labels) =>
        (await this.grant(namespace, digest, labels)) ? await this.info(namespace, digest) : undefined,
      async *bytes() {
        yield bytes;
      },
      drop: () => this.abort(namespace, writer.ref),
    });
  }

  #begin({ ref, totalBytes = 0, expected, labels = {}, lease }: WriterOptions): Ingest {
    const nowMs = this.#clock.nowMs();
    return {
      ref,
      totalBytes,
      expected,
      labels,
      lease,
      bytes: Buffer.alloc(0),
      startedAtMs: nowMs,
      updatedAtMs: nowMs,
      writer: undefined,
    };
  }

  #publish(namespace: string, digest: Digest, bytes: Buffer, labels: Labels): BlobInfo {
    const nowMs = this.#clock.nowMs();
    const before = this.#refs.get(`${namespace}/${digest}`);
    const info: BlobInfo = {
      digest,
      sizeBytes: bytes.length,
      labels: { ...before?.labels, ...labels },
      createdAtMs: before?.createdAtMs ?? nowMs,
      updatedAtMs: nowMs,
    };
    this.#blobs.set(digest, bytes);
    this.#refs.set(`${namespace}/${digest}`, info);
    return info;
  }

  #checkOpen(): void {
    if (this.#closed) throw storeClosed();
  }
}

interface IngestEnd {
  publish(digest: Digest, labels: Labels): BlobInfo;
  drop(): void;
}

class MemoryIngestWriter implements IngestWriter {
  readonly ref: string;
  readonly #ingest: Ingest;
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #end: IngestEnd;
  #ended = false;

  constructor(ingest: Ingest, clock: Clock, maxBytes: number, end: IngestEnd) {
    this.#maxBytes = maxBytes;
    this.ref = ingest.ref;
    this.#ingest = ingest;
    this.#clock = clock;
    this.#end = end;
  }

  get dataPath(): string {
    throw notOnDisk();
  }

  async status(): Promise<IngestStatus> {
    this.#checkOpen();
    return statusOf(this.#ingest);
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#checkOpen();
    if (this.#ingest.bytes.length + chunk.length > this.#maxBytes) throw ingestTooLarge(this.ref, this.#maxBytes);
    this.#ingest.bytes = Buffer.concat([this.#ingest.bytes, chunk]);
    this.#ingest.updatedAtMs = this.#clock.nowMs();
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#checkOpen();
    checkNatural(`ingest "${this.ref}": size`, sizeBytes <= this.#ingest.bytes.length ? sizeBytes : Number.NaN);
    this.#ingest.bytes = this.#ingest.bytes.subarray(0, sizeBytes);
  }

  async commit(options: CommitOptions): Promise<BlobInfo> {
    this.#checkOpen();
    await this[Symbol.asyncDispose]();
    this.#end.drop();
    return this.#end.publish(this.#check(options), options.labels ?? {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#ingest.writer = undefined;
  }

  #check(options: CommitOptions): Digest {
    const { bytes, expected } = this.#ingest;
    for (const sizeBytes of [options.sizeBytes, options.computed?.sizeBytes]) {
      if (sizeBytes !== undefined && sizeBytes !== bytes.length) throw sizeMismatch(this.ref, sizeBytes, bytes.length);
    }
    const wanted = [options.digest, expected].filter((digest) => digest !== undefined);
    const algorithm = wanted[0] === undefined ? "sha256" : digestAlgorithm(wanted[0]);
    const actual = `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}` as Digest;
    for (const digest of wanted) {
      if (digest !== actual) throw digestMismatch(this.ref, digest, actual);
    }
    return actual;
  }

  #checkOpen(): void {
    if (this.#ended) throw ingestEnded(this.ref);
  }
}

function statusOf(ingest: Ingest): IngestStatus {
  const { ref, bytes, totalBytes, expected, startedAtMs, updatedAtMs, labels, lease } = ingest;
  return {
    ref,
    offsetBytes: bytes.length,
    totalBytes,
    startedAtMs,
    updatedAtMs,
    labels,
    ...(expected === undefined ? {} : { expected }),
    ...(lease === undefined ? {} : { lease }),
  };
}

function notOnDisk(): StatusError {
  return new StatusError("UNIMPLEMENTED", "content in memory has no files", { reason: "CONTENT_NOT_ON_DISK" });
}
