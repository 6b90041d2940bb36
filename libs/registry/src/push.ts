/**
 * Blobs and manifests, written. A blob goes up in one request, or in pieces: after a broken one it goes on with what the
 * server says to have, or from the start where the server has dropped the upload.
 *
 * Invariants: what the repository has is not sent; sources are streamed, a piece at a time, and must bring as many bytes as
 * they announced; everything of an upload goes to the one endpoint that began it; an upload that is given up is cancelled.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { backoffMs, digestAlgorithm, isTransient, StatusError, toDigest, type Clock, type Digest } from "@berth/base";
import { formatImageReference, MANIFEST_LIMITS, type Descriptor, type ImageReference } from "@berth/model";
import { limited, type BandwidthState } from "./bandwidth.ts";
import { mismatch, notARegistry, uploadLost } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import type { Attempt, Failover } from "./failover.ts";
import { askBlob } from "./pull.ts";
import { targetOf } from "./redirect.ts";
import type { CallOptions } from "./registry.ts";
import type { Answer } from "./transport.ts";

/** A file, or whatever can be read from an offset on, more than once. */
export type BlobSource =
  | { readonly path: string }
  | { readonly open: (offsetBytes: number) => AsyncIterable<Uint8Array> };

export interface PushOptions extends CallOptions {
  /** A repository of the same registry that may have the blob already. */
  readonly mountFrom?: string;
  /**
   * Blobs beyond this go up in pieces of so many bytes; the server may ask for larger ones. Without it every blob goes up
   * whole: some large public registries take nothing else.
   */
  readonly chunkBytes?: number;
  /** Bytes that the server has. */
  readonly onProgress?: (bytes: number) => void;
}

export type PushOutcome = "exists" | "mounted" | "uploaded";

export interface PushedManifest {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

export interface PushDeps {
  readonly failover: Failover;
  readonly exchange: Exchange;
  readonly bandwidth: (registry: string) => BandwidthState;
  readonly clock: Clock;
}

const READ_BYTES = 256 * 1024;
/** Tries in a row that bring an upload no further. */
const MAX_FRUITLESS = 4;

export class Pusher {
  readonly #deps: PushDeps;

  constructor(deps: PushDeps) {
    this.#deps = deps;
  }

  async blob(
    ref: ImageReference,
    { digest, size }: Pick<Descriptor, "digest" | "size">,
    source: BlobSource,
    options: PushOptions,
  ): Promise<PushOutcome> {
    const what = `push of blob ${digest} to ${ref.registry}/${ref.repository}`;
    const { failover, exchange } = this.#deps;
    const missing = { reason: "REPOSITORY_MISSING" };
    const question = {
      registry: ref.registry,
      needs: ["push"] as const,
      what,
      missing,
      signal: options.signal,
      firstOnly: true,
    };
    return await failover.run(question, async (attempt) => {
      const scope = pushScope(ref.repository, options.mountFrom);
      const head = await exchange.send({ ...askBlob(ref, digest, "HEAD"), scope }, attempt);
      await exchange.discard(head);
      if (head.status === 200) return "exists";
      const query = options.mountFrom === undefined ? {} : { mount: digest, from: options.mountFrom };
      const path = `/${ref.repository}/blobs/uploads/`;
      const begun = await exchange.expect({ path, query, method: "POST", scope }, attempt, 201, 202);
      await exchange.discard(begun);
      if (begun.status === 201) return "mounted";
      const upload = new Upload(this.#deps, attempt, { digest, size, source, scope, options });
      await upload.run(begun);
      return "uploaded";
    });
  }

  async manifest(ref: ImageReference, { mediaType, bytes }: PushedManifest, { signal }: CallOptions): Promise<Digest> {
    const what = `push of image ${formatImageReference(ref)}`;
    if (bytes.length > MANIFEST_LIMITS.manifestBytes) {
      const text = `${what}: its manifest has more than ${MANIFEST_LIMITS.manifestBytes} bytes`;
      throw new StatusError("INVALID_ARGUMENT", text, { reason: "MANIFEST_UNSUPPORTED" });
    }
    const algorithm = ref.digest === undefined ? "sha256" : digestAlgorithm(ref.digest);
    const digest = toDigest(createHash(algorithm).update(bytes), algorithm);
    if (ref.digest !== undefined && ref.digest !== digest) {
      const text = `${what}: the manifest hashes to ${digest}`;
      throw new StatusError("INVALID_ARGUMENT", text, { reason: "MANIFEST_DIGEST_MISMATCH" });
    }
    const { failover, exchange } = this.#deps;
    const missing = { reason: "REPOSITORY_MISSING" };
    const question = { registry: ref.registry, needs: ["push"] as const, what, missing, signal, firstOnly: true };
    return await failover.run(question, async (attempt) => {
      const path = `/${ref.repository}/manifests/${ref.tag ?? digest}`;
      const headers = { "content-type": mediaType };
      const scope = pushScope(ref.repository);
      const answer = await exchange.expect({ path, method: "PUT", headers, body: () => bytes, scope }, attempt, 201);
      await exchange.discard(answer);
      checkStored(answer, digest, attempt);
      return digest;
    });
  }
}

interface UploadOf {
  readonly digest: Digest;
  readonly size: number;
  readonly source: BlobSource;
  readonly scope: string;
  readonly options: PushOptions;
}

/** One upload, from the server's 202 to its 201. */
class Upload {
  readonly #deps: PushDeps;
  readonly #attempt: Attempt;
  readonly #of: UploadOf;
  #location: URL | undefined;
  /** How much the server has. */
  #offset = 0;

  constructor(deps: PushDeps, attempt: Attempt, of: UploadOf) {
    this.#deps = deps;
    this.#attempt = attempt;
    this.#of = of;
  }

  async run(begun: Answer): Promise<void> {
    this.#moved(begun);
    const { size, options } = this.#of;
    const least = Number(begun.headers["oci-chunk-min-length"] ?? 0);
    const chunkBytes = Math.max(options.chunkBytes ?? Infinity, Number.isSafeInteger(least) ? least : 0, 1);
    try {
      if (size > chunkBytes) await this.#pieces(chunkBytes);
      await this.#finish(this.#offset);
    } catch (error) {
      await this.#cancel();
      throw error;
    }
    options.onProgress?.(size);
  }

  async #pieces(chunkBytes: number): Promise<void> {
    const { clock } = this.#deps;
    const { size, options } = this.#of;
    for (let fruitless = 0; this.#offset < size;) {
      const before = this.#offset;
      try {
        await this.#piece(Math.min(chunkBytes, size - this.#offset));
      } catch (error) {
        if (!isTransient(error) || fruitless >= MAX_FRUITLESS) throw error;
        const waitMs =
          StatusError.from(error).retryAfterMs ?? backoffMs({ initialMs: 100, maxMs: 5_000, factor: 2 }, fruitless + 1);
        await clock.sleep(waitMs, this.#attempt.signal);
        await this.#askOffset();
      }
      fruitless = this.#offset > before ? 0 : fruitless + 1;
      if (fruitless > MAX_FRUITLESS)
        throw notARegistry(this.#attempt.subject, "takes pieces of an upload without keeping them");
      options.onProgress?.(this.#offset);
    }
  }

  async #piece(bytes: number): Promise<void> {
    const { exchange } = this.#deps;
    const start = this.#offset;
    const headers = {
      "content-type": "application/octet-stream",
      "content-range": `${start}-${start + bytes - 1}`,
      "content-length": String(bytes),
    };
    const body = (): AsyncIterable<Uint8Array> => this.#read(start, bytes);
    const ask = { path: this.#location!, method: "PATCH" as const, headers, body, scope: this.#of.scope };
    const answer = await exchange.send(ask, this.#attempt);
    // The server counts otherwise: it says so in its upload's range.
    if (answer.status === 416) {
      await exchange.discard(answer);
      return await this.#askOffset();
    }
    if (answer.status !== 202) throw await exchange.refusal(answer, this.#attempt);
    await exchange.discard(answer);
    this.#moved(answer);
    this.#offset = this.#rangeOf(answer) ?? start + bytes;
  }

  /** The rest, or nothing, with the digest: the server hashes and keeps it. */
  async #finish(start: number): Promise<void> {
    const { exchange } = this.#deps;
    const { digest, size, scope } = this.#of;
    const bytes = size - start;
    const headers = { "content-type": "application/octet-stream", "content-length": String(bytes) };
    const body = (): AsyncIterable<Uint8Array> | Uint8Array =>
      bytes === 0 ? new Uint8Array() : this.#read(start, bytes);
    const ask = { path: this.#location!, query: { digest }, method: "PUT" as const, headers, body, scope };
    const answer = await exchange.expect(ask, this.#attempt, 201);
    await exchange.discard(answer);
    checkStored(answer, digest, this.#attempt);
  }

  /** What the server has of an upload whose last piece broke. */
  async #askOffset(): Promise<void> {
    const { exchange } = this.#deps;
    const ask = { path: this.#location!, method: "GET" as const, scope: this.#of.scope };
    const answer = await exchange.send(ask, this.#attempt);
    // docker-registry drops an upload of which it holds part of a piece.
    if (answer.status === 404 || answer.status === 416) {
      await exchange.discard(answer);
      throw uploadLost(this.#attempt.subject);
    }
    if (![200, 202, 204].includes(answer.status)) throw await exchange.refusal(answer, this.#attempt);
    await exchange.discard(answer);
    this.#moved(answer);
    this.#offset = this.#rangeOf(answer) ?? 0;
  }

  /** `Range: 0-99` means 100 bytes; docker-registry says `0-0` for none, which one byte would say too. */
  #rangeOf(answer: Answer): number | undefined {
    const match = /^(?:bytes=)?0-(\d+)$/.exec(String(answer.headers["range"] ?? ""));
    if (match === null) return undefined;
    const offset = match[1] === "0" ? 0 : Number(match[1]) + 1;
    if (offset <= this.#of.size) return offset;
    throw notARegistry(this.#attempt.subject, `says to have ${offset} bytes of ${this.#of.size}`);
  }

  #moved({ headers, url }: Answer): void {
    const location = headers["location"];
    if (typeof location === "string" && location !== "")
      this.#location = targetOf(location, url, this.#attempt.subject);
    if (this.#location === undefined) throw notARegistry(this.#attempt.subject, "began an upload without saying where");
  }

  #read(start: number, bytes: number): AsyncIterable<Uint8Array> {
    const { bandwidth, clock } = this.#deps;
    const { endpoint, signal } = this.#attempt;
    return limited(this.#slice(start, bytes), bandwidth(endpoint.registry), clock, signal);
  }

  async *#slice(start: number, bytes: number): AsyncGenerator<Uint8Array> {
    const { source } = this.#of;
    const opened =
      "path" in source
        ? createReadStream(source.path, { start, end: start + bytes - 1, highWaterMark: READ_BYTES })
        : source.open(start);
    let left = bytes;
    for await (const chunk of opened as AsyncIterable<Uint8Array>) {
      if (chunk.length > 0) yield chunk.length <= left ? chunk : chunk.subarray(0, left);
      left -= chunk.length;
      if (left <= 0) return;
    }
    const { what } = this.#attempt.subject;
    const text = `${what}: its source ended ${left} bytes early; was it changed meanwhile?`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "BLOB_SOURCE_CHANGED" });
  }

  async #cancel(): Promise<void> {
    const { exchange } = this.#deps;
    const { signal: _, ...attempt } = this.#attempt;
    try {
      const ask = { path: this.#location!, method: "DELETE" as const, scope: this.#of.scope };
      await exchange.discard(await exchange.send(ask, { ...attempt, signal: AbortSignal.timeout(5_000) }));
    } catch {
      // The server drops abandoned uploads by itself.
    }
  }
}

function checkStored(answer: Answer, digest: Digest, { subject }: Attempt): void {
  const stored = answer.headers["docker-content-digest"];
  if (typeof stored !== "string" || stored === digest || digestAlgorithm(digest) !== stored.split(":", 1)[0]) return;
  throw mismatch(subject, "PUSH_DIGEST_MISMATCH", `registry stored it as ${stored}`);
}

function pushScope(repository: string, mountFrom?: string): string {
  const own = `repository:${repository}:pull,push`;
  return mountFrom === undefined ? own : `${own} repository:${mountFrom}:pull`;
}
