/**
 * The writer of a blob that its namespace may have without supplying it: the sharing policy says so, and the store holds it.
 *
 * Until somebody writes, it claims to be complete and its commit takes the blob that is there. Whoever writes, truncates or
 * takes the file (a client that knows nothing of sharing) gets the ingest beneath instead, as if nothing had been granted.
 */
import type { Digest } from "@berth/base";
import type { BlobInfo, CommitOptions, IngestStatus, IngestWriter, Labels } from "./content.ts";
import { digestMismatch, ingestEnded, sizeMismatch } from "./errors.ts";

export interface Granted {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Gives the namespace its reference; undefined if the blob has gone since. */
  take(labels: Labels): Promise<BlobInfo | undefined>;
  /** Yields the blob's bytes. */
  bytes(): AsyncIterable<Uint8Array>;
  /** Drops the ingest that was never written to. */
  drop(): Promise<void>;
}

export class GrantedIngestWriter implements IngestWriter {
  readonly ref: string;
  readonly #inner: IngestWriter;
  #granted: Granted | undefined;
  #ended = false;

  constructor(inner: IngestWriter, granted: Granted) {
    this.ref = inner.ref;
    this.#inner = inner;
    this.#granted = granted;
  }

  get dataPath(): string {
    const path = this.#inner.dataPath;
    this.#granted = undefined;
    return path;
  }

  async status(): Promise<IngestStatus> {
    const status = await this.#inner.status();
    if (this.#granted === undefined) return status;
    return { ...status, offsetBytes: this.#granted.sizeBytes, totalBytes: this.#granted.sizeBytes };
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#materialise();
    await this.#inner.write(chunk);
  }

  async truncate(sizeBytes: number): Promise<void> {
    if (sizeBytes === 0) this.#granted = undefined;
    await this.#materialise();
    await this.#inner.truncate(sizeBytes);
  }

  async commit(options: CommitOptions): Promise<BlobInfo> {
    const granted = this.#granted;
    if (granted === undefined) return await this.#inner.commit(options);
    if (this.#ended) throw ingestEnded(this.ref);
    const { digest = granted.digest, sizeBytes = granted.sizeBytes } = options;
    if (digest !== granted.digest) throw digestMismatch(this.ref, digest, granted.digest);
    if (sizeBytes !== granted.sizeBytes) throw sizeMismatch(this.ref, sizeBytes, granted.sizeBytes);
    const info = await granted.take(options.labels ?? {});
    if (info === undefined) {
      // Gone since: then there is nothing in this ingest, which its commit will say.
      this.#granted = undefined;
      return await this.#inner.commit(options);
    }
    await this[Symbol.asyncDispose]();
    return info;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#inner[Symbol.asyncDispose]();
    await this.#granted?.drop();
  }

  /** Somebody adds to the bytes: then they have to be there. */
  async #materialise(): Promise<void> {
    const granted = this.#granted;
    if (granted === undefined) return;
    this.#granted = undefined;
    for await (const chunk of granted.bytes()) await this.#inner.write(chunk);
  }
}
