/** The registry client: one request path with authorisation and retries, and the few questions asked through it. */
import { createHash } from "node:crypto";
import {
  digestAlgorithm,
  isDigest,
  isTransient,
  retry,
  silentLogger,
  StatusError,
  systemClock,
  toDigest,
  type Clock,
  type Digest,
  type Logger,
} from "@berth/base";
import { formatImageReference, MANIFEST_LIMITS, MEDIA_TYPES, parseManifest, type ImageReference } from "@berth/model";
import { Authoriser } from "./auth.ts";
import { hostOf, originOf, resolveConfig, type RegistryClientConfig, type ResolvedConfig } from "./config.ts";
import { fromAnswer, fromBrokenBody, mismatch, notARegistry, stalled, type Subject } from "./errors.ts";
import { rangeHeader, readPart, wantedRange, type WantedRange } from "./range.ts";
import type { BlobOptions, BlobStream, FetchedManifest, RegistryClient, RegistryHost } from "./registry.ts";
import type { Authorisation, RegistrySession } from "./session.ts";
import { watchPace } from "./stall.ts";
import { abandon, discard, readBody, readSaid, retryAfterMs, Transport, type Answer } from "./transport.ts";

const ACCEPT_MANIFEST = [
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.dockerIndex,
  MEDIA_TYPES.dockerManifest,
].join(", ");

export interface RegistryClientDeps {
  /** How hosts are reached; one that is not named here is reached anonymously over HTTPS. */
  readonly hosts: readonly RegistryHost[];
  readonly logger?: Logger;
  readonly clock?: Clock;
}

interface Ask {
  readonly ref: ImageReference;
  readonly path: string;
  readonly method: "GET" | "HEAD";
  readonly headers: Readonly<Record<string, string>>;
  readonly subject: Subject;
  readonly signal: AbortSignal | undefined;
}

interface CallOptions {
  readonly signal?: AbortSignal;
}

export function createRegistryClient(deps: RegistryClientDeps, config: RegistryClientConfig = {}): RegistryClient {
  return new HttpRegistryClient(deps, config, []);
}

/** The client of a {@link RegistrySession}, for the worker thread that was handed one. */
export function openSession(session: RegistrySession, deps: Omit<RegistryClientDeps, "hosts"> = {}): RegistryClient {
  return new HttpRegistryClient({ ...deps, hosts: session.hosts }, session.config, session.authorisations);
}

class HttpRegistryClient implements RegistryClient {
  readonly #hosts: readonly RegistryHost[];
  readonly #given: RegistryClientConfig;
  readonly #config: ResolvedConfig;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #transport: Transport;
  readonly #auth: Authoriser;

  constructor(deps: RegistryClientDeps, config: RegistryClientConfig, known: readonly Authorisation[]) {
    this.#hosts = deps.hosts;
    this.#given = config;
    this.#config = resolveConfig(config);
    this.#logger = deps.logger ?? silentLogger;
    this.#clock = deps.clock ?? systemClock;
    this.#transport = new Transport(this.#config);
    this.#auth = new Authoriser({ transport: this.#transport, clock: this.#clock, known });
  }

  async manifest(ref: ImageReference, options: CallOptions = {}): Promise<FetchedManifest> {
    const ask = this.#askManifest(ref, "GET", options.signal);
    return await this.#retried(ask, async () => {
      const answer = await this.#accepted(ask);
      const bytes = await this.#readManifest(answer, ask);
      const algorithm = ref.digest === undefined ? "sha256" : digestAlgorithm(ref.digest);
      const digest = toDigest(createHash(algorithm).update(bytes), algorithm);
      if (ref.digest !== undefined && ref.digest !== digest) {
        const text = `registry ${ref.registry} sent a manifest that hashes to ${digest}`;
        throw mismatch(ask.subject, "MANIFEST_DIGEST_MISMATCH", text);
      }
      const { mediaType } = parseManifest(bytes, ask.subject.what, contentType(answer));
      return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
    });
  }

  async resolve(ref: ImageReference, options: CallOptions = {}): Promise<Digest | undefined> {
    const ask = this.#askManifest(ref, "HEAD", options.signal);
    return await this.#retried(ask, async () => {
      const answer = await this.#accepted(ask);
      await discard(answer.body);
      const claimed = answer.headers["docker-content-digest"];
      return ref.digest ?? (typeof claimed === "string" && isDigest(claimed) ? claimed : undefined);
    });
  }

  async hasBlob(ref: ImageReference, digest: Digest, options: CallOptions = {}): Promise<boolean> {
    const ask = this.#askBlob(ref, digest, "HEAD", {}, options.signal);
    return await this.#retried(ask, async () => {
      const answer = await this.#send(ask);
      if (answer.status === 200) {
        await discard(answer.body);
        return true;
      }
      const error = await this.#refusal(answer, ask);
      if (error.code === "NOT_FOUND") return false;
      throw error;
    });
  }

  async blob(ref: ImageReference, digest: Digest, options: BlobOptions = {}): Promise<BlobStream> {
    const range = wantedRange(options);
    const headers = { "accept-encoding": "identity", ...rangeHeader(range) };
    const ask = this.#askBlob(ref, digest, "GET", headers, options.signal);
    return await this.#retried(ask, async () => {
      const answer = await this.#send(ask);
      if (answer.status !== 200 && answer.status !== 206) throw await this.#refusal(answer, ask);
      if (isHtml(answer)) {
        abandon(answer.body);
        throw notARegistry(ask.subject, "answered with an HTML page");
      }
      return this.#stream(answer, ask, range);
    });
  }

  session(ref: ImageReference): RegistrySession {
    const host = hostOf(this.#hosts, ref);
    return {
      hosts: [host],
      config: this.#given,
      authorisations: this.#auth.authorisations(host.host, scopeOf(ref)),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#transport[Symbol.asyncDispose]();
  }

  #askManifest(ref: ImageReference, method: Ask["method"], signal: AbortSignal | undefined): Ask {
    const what = `image ${formatImageReference(ref)}`;
    return {
      ref,
      path: `/v2/${ref.repository}/manifests/${ref.digest ?? ref.tag ?? "latest"}`,
      method,
      headers: { accept: ACCEPT_MANIFEST },
      subject: { host: hostOf(this.#hosts, ref), what, missing: { reason: "IMAGE_MISSING" } },
      signal,
    };
  }

  #askBlob(
    ref: ImageReference,
    digest: Digest,
    method: Ask["method"],
    headers: Ask["headers"],
    signal: AbortSignal | undefined,
  ): Ask {
    const what = `blob ${digest} of ${ref.registry}/${ref.repository}`;
    return {
      ref,
      path: `/v2/${ref.repository}/blobs/${digest}`,
      method,
      headers,
      subject: { host: hostOf(this.#hosts, ref), what, missing: { reason: "BLOB_MISSING" } },
      signal,
    };
  }

  async #retried<T>(ask: Ask, body: () => Promise<T>): Promise<T> {
    const { backoffInitialMs, backoffMaxMs, maxAttempts, maxRetryAfterMs } = this.#config;
    return await retry(body, {
      maxAttempts,
      clock: this.#clock,
      backoff: { initialMs: backoffInitialMs, maxMs: backoffMaxMs, factor: 2 },
      signal: ask.signal,
      retryable: (error) => isTransient(error) && (StatusError.from(error).retryAfterMs ?? 0) <= maxRetryAfterMs,
      onRetry: (error, attempt, waitMs) =>
        this.#logger.debug({ reason: error.reason, attempt, waitMs }, `${ask.subject.what}: trying again`),
    });
  }

  /** The answer to an authorised request, of whatever status. A 401 is answered at most twice: old token, then new one. */
  async #send(ask: Ask): Promise<Answer> {
    const origin = originOf(ask.subject.host);
    const scope = scopeOf(ask.ref);
    let authorization = this.#auth.header(ask.subject.host.host, scope);
    for (let attempts = 0; ; attempts += 1) {
      const headers = { ...ask.headers, ...(authorization === undefined ? {} : { authorization }) };
      const { method, subject, signal } = ask;
      const answer = await this.#transport.send({ url: new URL(origin + ask.path), method, headers, subject, signal });
      if (answer.status !== 401 || answer.origin !== new URL(origin).origin || attempts === 2) return answer;
      const next = await this.#auth.answer(answer, scope, authorization, subject, signal);
      if (next === undefined) return answer;
      await discard(answer.body);
      authorization = next;
    }
  }

  async #accepted(ask: Ask): Promise<Answer> {
    const answer = await this.#send(ask);
    if (answer.status !== 200) throw await this.#refusal(answer, ask);
    return answer;
  }

  async #refusal(answer: Answer, ask: Ask): Promise<StatusError> {
    const said = await readSaid(answer);
    return fromAnswer(answer.status, retryAfterMs(answer, this.#clock.nowMs()), said, ask.subject);
  }

  async #readManifest(answer: Answer, ask: Ask): Promise<Buffer> {
    if (isHtml(answer)) {
      abandon(answer.body);
      throw notARegistry(ask.subject, "answered with an HTML page", "MANIFEST_UNSUPPORTED");
    }
    try {
      const bytes = await readBody(this.#paced(answer, ask), MANIFEST_LIMITS.manifestBytes);
      if (bytes !== undefined) return bytes;
    } catch (error) {
      throw fromBrokenBody(error, ask.subject, ask.signal);
    }
    const text = `sent a manifest of more than ${MANIFEST_LIMITS.manifestBytes} bytes`;
    throw notARegistry(ask.subject, text, "MANIFEST_UNSUPPORTED");
  }

  #stream(answer: Answer, ask: Ask, range: WantedRange): BlobStream {
    const { body } = answer;
    const part = readPart(answer, range);
    if (typeof part === "string") {
      abandon(body);
      throw notARegistry(ask.subject, part);
    }
    return {
      offsetBytes: part.offsetBytes,
      totalBytes: part.totalBytes,
      rangeHonoured: part.rangeHonoured,
      body: exactly(this.#paced(answer, ask), part.bodyBytes, ask),
      async [Symbol.asyncDispose]() {
        abandon(body);
      },
    };
  }

  #paced(answer: Answer, ask: Ask): AsyncIterable<Uint8Array> {
    const { stallWindowMs: windowMs, stallMinBytes: minBytes } = this.#config;
    const onStall = (bytes: number): void => void answer.body.destroy(stalled(ask.subject, bytes, windowMs));
    return watchPace(answer.body, { clock: this.#clock, windowMs, minBytes, onStall });
  }
}

/** The source, which must bring `expected` bytes where that is known. */
async function* exactly(
  source: AsyncIterable<Uint8Array>,
  expected: number | undefined,
  ask: Ask,
): AsyncGenerator<Uint8Array> {
  let seen = 0;
  try {
    for await (const chunk of source) {
      seen += chunk.length;
      if (seen > (expected ?? Infinity))
        throw notARegistry(ask.subject, `sent more than the ${expected} bytes announced`);
      yield chunk;
    }
  } catch (error) {
    throw fromBrokenBody(error, ask.subject, ask.signal);
  }
  if (seen < (expected ?? 0))
    throw fromBrokenBody(new Error(`${seen} of ${expected} bytes came`), ask.subject, ask.signal);
}

function scopeOf(ref: ImageReference): string {
  return `repository:${ref.repository}:pull`;
}

function contentType(answer: Answer): string | undefined {
  const type = answer.headers["content-type"];
  return typeof type === "string" ? type : undefined;
}

function isHtml(answer: Answer): boolean {
  return /^text\/html\b/i.test(contentType(answer) ?? "");
}
