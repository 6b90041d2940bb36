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
  ingestDiffers,
  ingestEnded,
  ingestLocked,
  ingestMissing,
  sizeMismatch,
  storeClosed,
} from "./errors.ts";

interface Ingest {
  readonly ref: string;
  readonly startedAtMs: number;
  totalBytes: number;
  expected: Digest | undefined;
  bytes: Buffer;
  updatedAtMs: number;
  hasWriter: boolean;
}

const READ_ALL_MAX_BYTES = 8 * 1024 * 1024;

export class MemoryContentStore implements ContentStore {
  readonly #clock: Clock;
  readonly #blobs = new Map<Digest, Buffer>();
  /** Keys are `namespace/digest` and `namespace/ref`; a namespace holds no slash. */
  readonly #refs = new Map<string, BlobInfo>();
  readonly #ingests = new Map<string, Ingest>();
  #closed = false;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
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

  async update(namespace: string, digest: Digest, labels: Labels): Promise<BlobInfo> {
    const info = { ...(await this.info(namespace, digest)), labels: { ...labels }, updatedAtMs: this.#clock.nowMs() };
    this.#refs.set(`${namespace}/${digest}`, info);
    return info;
  }

  async *walk(namespace: string): AsyncIterable<BlobInfo> {
    this.#checkOpen();
    const keys = [...this.#refs.keys()].filter((key) => key.startsWith(`${namespace}/`)).sort();
    for (const key of keys) {
      const info = this.#refs.get(key);
      if (info !== undefined) yield info;
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
    return {
      digest,
      sizeBytes,
      async read(offset, length) {
        checkNatural(`content ${digest}: offset`, offset);
        checkNatural(`content ${digest}: length`, length);
        return Uint8Array.from(bytes.subarray(offset, offset + length));
      },
      async [Symbol.asyncDispose]() {},
    };
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
    const key = `${namespace}/${options.ref}`;
    const before = this.#ingests.get(key);
    if (before?.hasWriter === true) throw ingestLocked(namespace, options.ref);
    if (options.expected !== undefined && (await this.has(namespace, options.expected))) {
      throw contentExists(namespace, options.expected);
    }
    const ingest = before === undefined ? this.#begin(options) : resume(before, options);
    this.#ingests.set(key, ingest);
    ingest.hasWriter = true;
    return new MemoryIngestWriter(ingest, this.#clock, {
      publish: (digest, labels) => this.#publish(namespace, digest, ingest.bytes, labels),
      drop: () => this.#ingests.delete(key),
    });
  }

  async status(namespace: string, ref: string): Promise<IngestStatus> {
    this.#checkOpen();
    const ingest = this.#ingests.get(`${namespace}/${ref}`);
    if (ingest === undefined) throw ingestMissing(namespace, ref);
    return statusOf(ingest);
  }

  async listStatuses(namespace: string): Promise<readonly IngestStatus[]> {
    this.#checkOpen();
    const keys = [...this.#ingests.keys()].filter((key) => key.startsWith(`${namespace}/`)).sort();
    return keys.map((key) => statusOf(this.#ingests.get(key)!));
  }

  async abort(namespace: string, ref: string): Promise<void> {
    this.#checkOpen();
    const ingest = this.#ingests.get(`${namespace}/${ref}`);
    if (ingest === undefined) throw ingestMissing(namespace, ref);
    if (ingest.hasWriter) throw ingestLocked(namespace, ref);
    this.#ingests.delete(`${namespace}/${ref}`);
  }

  async physical(digest: Digest): Promise<number | undefined> {
    this.#checkOpen();
    return this.#blobs.get(digest)?.length;
  }

  async share(namespace: string, digest: Digest, labels: Labels = {}): Promise<BlobInfo> {
    this.#checkOpen();
    checkNamespace(namespace);
    const bytes = this.#blobs.get(digest);
    if (bytes === undefined) throw contentMissing(namespace, digest);
    return this.#publish(namespace, digest, bytes, labels);
  }

  async totals(): Promise<{ readonly blobs: number; readonly sizeBytes: number }> {
    this.#checkOpen();
    const sizeBytes = [...this.#blobs.values()].reduce((sum, bytes) => sum + bytes.length, 0);
    return { blobs: this.#blobs.size, sizeBytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
  }

  #begin({ ref, totalBytes = 0, expected }: WriterOptions): Ingest {
    const nowMs = this.#clock.nowMs();
    return {
      ref,
      totalBytes,
      expected,
      bytes: Buffer.alloc(0),
      startedAtMs: nowMs,
      updatedAtMs: nowMs,
      hasWriter: false,
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
  readonly #end: IngestEnd;
  #ended = false;

  constructor(ingest: Ingest, clock: Clock, end: IngestEnd) {
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
    this.#ingest.hasWriter = false;
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

function resume(ingest: Ingest, { ref, totalBytes, expected }: WriterOptions): Ingest {
  if (totalBytes && ingest.totalBytes && ingest.totalBytes !== totalBytes) throw ingestDiffers(ref, "size");
  if (expected && ingest.expected && ingest.expected !== expected) throw ingestDiffers(ref, "digest");
  ingest.totalBytes ||= totalBytes ?? 0;
  ingest.expected ??= expected;
  return ingest;
}

function statusOf({ ref, bytes, totalBytes, expected, startedAtMs, updatedAtMs }: Ingest): IngestStatus {
  const base = { ref, offsetBytes: bytes.length, totalBytes, startedAtMs, updatedAtMs };
  return expected === undefined ? base : { ...base, expected };
}

function notOnDisk(): StatusError {
  return new StatusError("UNIMPLEMENTED", "content in memory has no files", { reason: "CONTENT_NOT_ON_DISK" });
}
