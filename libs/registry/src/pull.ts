/** Manifests and blobs, read. */
import { createHash } from "node:crypto";
import { digestAlgorithm, isDigest, toDigest, type Clock, type Digest } from "@berth/base";
import { formatImageReference, MANIFEST_LIMITS, MEDIA_TYPES, parseManifest, type ImageReference } from "@berth/model";
import { limited, type BandwidthState } from "./bandwidth.ts";
import { fromBrokenBody, mismatch, notARegistry, stalled } from "./errors.ts";
import type { Ask, Exchange } from "./exchange.ts";
import type { Attempt, Failover, Question } from "./failover.ts";
import { rangeHeader, readPart, wantedRange, type WantedRange } from "./range.ts";
import type { BlobOptions, BlobStream, CallOptions, FetchedManifest } from "./registry.ts";
import { watchPace } from "./stall.ts";
import { abandon, type Answer } from "./transport.ts";

const ACCEPT_MANIFEST = [
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.dockerIndex,
  MEDIA_TYPES.dockerManifest,
].join(", ");
/** What servers answer to a HEAD that they do not know; a GET may still do. */
const HEAD_UNKNOWN = new Set([400, 405, 406, 501]);

export interface PullDeps {
  readonly failover: Failover;
  readonly exchange: Exchange;
  readonly bandwidth: (registry: string) => BandwidthState;
  readonly clock: Clock;
}

export class Puller {
  readonly #deps: PullDeps;

  constructor(deps: PullDeps) {
    this.#deps = deps;
  }

  async manifest(ref: ImageReference, { signal }: CallOptions): Promise<FetchedManifest> {
    const pinned =
      ref.digest === undefined && this.#resolvesFirst(ref) ? await this.resolve(ref, { signal }) : undefined;
    const wanted = pinned === undefined ? ref : { ...ref, digest: pinned };
    const question = askedOf(wanted, wanted.digest === undefined ? ["resolve", "pull"] : ["pull"], signal);
    return await this.#deps.failover.run(question, (attempt) => this.#fetch(wanted, attempt));
  }

  async resolve(ref: ImageReference, { signal }: CallOptions): Promise<Digest | undefined> {
    const { failover, exchange } = this.#deps;
    const question = askedOf(ref, ref.digest === undefined ? ["resolve"] : ["pull"], signal);
    return await failover.run(question, async (attempt) => {
      const answer = await exchange.send(askManifest(ref, "HEAD"), attempt);
      const claimed = answer.headers["docker-content-digest"];
      if (answer.status !== 200 && !HEAD_UNKNOWN.has(answer.status)) throw await exchange.refusal(answer, attempt);
      await exchange.discard(answer);
      if (answer.status === 200 && ref.digest !== undefined) return ref.digest;
      if (answer.status === 200 && typeof claimed === "string" && isDigest(claimed)) return claimed;
      return (await this.#fetch(ref, attempt)).descriptor.digest;
    });
  }

  async hasBlob(ref: ImageReference, digest: Digest, { signal }: CallOptions): Promise<boolean> {
    const { failover, exchange } = this.#deps;
    const ask = askBlob(ref, digest, "HEAD");
    try {
      await failover.run(blobQuestion(ref, digest, signal), async (attempt) => {
        await exchange.discard(await exchange.expect(ask, attempt, 200));
      });
      return true;
    } catch (error) {
      if ((error as { code?: unknown }).code === "NOT_FOUND") return false;
      throw error;
    }
  }

  async blob(ref: ImageReference, digest: Digest, options: BlobOptions): Promise<BlobStream> {
    const { failover, exchange } = this.#deps;
    const range = wantedRange(options);
    const headers = { "accept-encoding": "identity", ...rangeHeader(range) };
    const ask = askBlob(ref, digest, "GET", headers);
    return await failover.run(blobQuestion(ref, digest, options.signal), async (attempt) => {
      const answer = await exchange.expect(ask, attempt, 200, 206);
      if (isHtml(answer)) {
        abandon(answer.body);
        throw notARegistry(attempt.subject, "answered with an HTML page");
      }
      return this.#stream(answer, attempt, range);
    });
  }

  /** Is there an endpoint first in line that may not say what a tag means? Then somebody else is asked for the digest. */
  #resolvesFirst(ref: ImageReference): boolean {
    const what = `image ${formatImageReference(ref)}`;
    const { registry } = ref;
    const [first] = this.#deps.failover.capable({ registry, needs: ["pull"], what });
    return !first!.capabilities.includes("resolve");
  }

  async #fetch(ref: ImageReference, attempt: Attempt): Promise<FetchedManifest> {
    const { exchange } = this.#deps;
    const { subject } = attempt;
    const answer = await exchange.expect(askManifest(ref, "GET"), attempt, 200);
    if (isHtml(answer)) {
      abandon(answer.body);
      throw notARegistry(subject, "answered with an HTML page", "MANIFEST_UNSUPPORTED");
    }
    const bytes = await exchange.read(answer, MANIFEST_LIMITS.manifestBytes, attempt);
    if (bytes === undefined) {
      const text = `sent a manifest of more than ${MANIFEST_LIMITS.manifestBytes} bytes`;
      throw notARegistry(subject, text, "MANIFEST_UNSUPPORTED");
    }
    const algorithm = ref.digest === undefined ? "sha256" : digestAlgorithm(ref.digest);
    const digest = toDigest(createHash(algorithm).update(bytes), algorithm);
    if (ref.digest !== undefined && ref.digest !== digest) {
      const text = `registry ${ref.registry} sent a manifest that hashes to ${digest}`;
      throw mismatch(subject, "MANIFEST_DIGEST_MISMATCH", text);
    }
    const { mediaType } = parseManifest(bytes, subject.what, contentType(answer));
    return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
  }

  #stream(answer: Answer, attempt: Attempt, range: WantedRange): BlobStream {
    const { body } = answer;
    const part = readPart(answer, range);
    if (typeof part === "string") {
      abandon(body);
      throw notARegistry(attempt.subject, part);
    }
    attempt.pending();
    const { clock, bandwidth } = this.#deps;
    const { offsetBytes, totalBytes, rangeHonoured } = part;
    const source = exactly(this.#paced(answer, attempt), part.bodyBytes, attempt);
    return {
      offsetBytes,
      totalBytes,
      rangeHonoured,
      body: limited(source, bandwidth(attempt.endpoint.registry), clock, attempt.signal),
      async [Symbol.asyncDispose]() {
        abandon(body);
      },
    };
  }

  #paced(answer: Answer, { limits, stallMinBytes: minBytes, subject }: Attempt): AsyncIterable<Uint8Array> {
    const { stallWindowMs: windowMs } = limits;
    const onStall = (bytes: number): void => void answer.body.destroy(stalled(subject, bytes, windowMs));
    return watchPace(answer.body, { clock: this.#deps.clock, windowMs, minBytes, onStall });
  }
}

/** The source, which must bring `expected` bytes where that is known. Reports how it ended. */
async function* exactly(
  source: AsyncIterable<Uint8Array>,
  expected: number | undefined,
  attempt: Attempt,
): AsyncGenerator<Uint8Array> {
  const { subject, signal } = attempt;
  let seen = 0;
  try {
    for await (const chunk of source) {
      seen += chunk.length;
      if (seen > (expected ?? Infinity)) throw notARegistry(subject, `sent more than the ${expected} bytes announced`);
      yield chunk;
    }
    if (seen < (expected ?? 0)) throw new Error(`${seen} of ${expected} bytes came`);
  } catch (raw) {
    const error = fromBrokenBody(raw, subject, signal);
    attempt.ended(error);
    throw error;
  }
  attempt.ended(undefined);
}

export function askedOf(ref: ImageReference, needs: Question["needs"], signal: AbortSignal | undefined): Question {
  const what = `image ${formatImageReference(ref)}`;
  return { registry: ref.registry, needs, what, missing: { reason: "IMAGE_MISSING" }, signal };
}

function blobQuestion(ref: ImageReference, digest: Digest, signal: AbortSignal | undefined): Question {
  const what = `blob ${digest} of ${ref.registry}/${ref.repository}`;
  return { registry: ref.registry, needs: ["pull"], what, missing: { reason: "BLOB_MISSING" }, signal };
}

export function askManifest({ repository, digest, tag }: ImageReference, method: "GET" | "HEAD"): Ask {
  const path = `/${repository}/manifests/${digest ?? tag ?? "latest"}`;
  return { path, method, headers: { accept: ACCEPT_MANIFEST }, scope: pullScope(repository) };
}

export function askBlob(
  { repository }: ImageReference,
  digest: Digest,
  method: "GET" | "HEAD",
  headers: Readonly<Record<string, string>> = {},
): Ask {
  return { path: `/${repository}/blobs/${digest}`, method, headers, scope: pullScope(repository) };
}

export function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

export function contentType(answer: Answer): string | undefined {
  const type = answer.headers["content-type"];
  return typeof type === "string" ? type : undefined;
}

export function isHtml(answer: Answer): boolean {
  return /^text\/html\b/i.test(contentType(answer) ?? "");
}
