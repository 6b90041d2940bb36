/**
 * Requests over pools of connections, one pool per origin and CA, with redirects followed by hand.
 *
 * Invariants: an `authorization` header never goes to another origin than the one it was made for; a redirect never leads
 * from HTTPS to plain HTTP; at most {@link MAX_REDIRECTS} are followed; an answer is always read, dumped or destroyed.
 */
import { rootCertificates } from "node:tls";
import { Pool, type Dispatcher } from "undici";
import type { ResolvedConfig } from "./config.ts";
import { fromSocket, refused, type Subject } from "./errors.ts";

const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MAX_SAID_BYTES = 4096;

export interface TransportRequest {
  readonly url: URL;
  readonly method: "GET" | "HEAD" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly subject: Subject;
  readonly signal: AbortSignal | undefined;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Dispatcher.ResponseData["body"];
  /** Where the answer came from, after redirects. */
  readonly origin: string;
}

export class Transport implements AsyncDisposable {
  readonly #pools = new Map<string, Pool>();
  readonly #config: ResolvedConfig;

  constructor(config: ResolvedConfig) {
    this.#config = config;
  }

  /** The answer, whatever its status; redirects followed. @throws what {@link fromSocket} makes of a failure */
  async send(request: TransportRequest): Promise<Answer> {
    let url = request.url;
    let headers = request.headers;
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#once({ ...request, url, headers });
      const location = answer.headers["location"];
      if (!REDIRECTS.has(answer.status) || typeof location !== "string") return answer;
      await discard(answer.body);
      if (redirects >= MAX_REDIRECTS) {
        throw refused(request.subject, "REGISTRY_REDIRECTS", `gave up after ${MAX_REDIRECTS} redirects`);
      }
      const next = redirectTarget(location, url, request.subject);
      if (next.origin !== url.origin) headers = withoutCredentials(headers);
      url = next;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.destroy()));
  }

  async #once(request: TransportRequest): Promise<Answer> {
    try {
      const answer = await this.#pool(request.url.origin, request.subject.host.ca).request({
        path: request.url.pathname + request.url.search,
        method: request.method,
        headers: request.headers,
        body: request.body ?? null,
        signal: request.signal ?? null,
      });
      return { status: answer.statusCode, headers: answer.headers, body: answer.body, origin: request.url.origin };
    } catch (error) {
      throw fromSocket(error, request.subject, request.signal);
    }
  }

  #pool(origin: string, ca: string | undefined): Pool {
    const key = `${origin} ${ca ?? ""}`;
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      pool = new Pool(origin, {
        connections: this.#config.connectionsPerOrigin,
        headersTimeout: this.#config.headersTimeoutMs,
        bodyTimeout: 0,
        allowH2: false,
        connect: {
          timeout: this.#config.connectTimeoutMs,
          ...(ca === undefined ? {} : { ca: [...rootCertificates, ca] }),
        },
      });
      this.#pools.set(key, pool);
    }
    return pool;
  }
}

/** Reads a body of at most `maxBytes`; undefined when there is more, the rest being dropped. */
export async function readBody(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Ends a body that nobody wants. */
export async function discard(body: Answer["body"]): Promise<void> {
  await body.dump({ limit: 64 * 1024 }).catch(() => abandon(body));
}

/** Cuts a body off together with its connection. */
export function abandon(body: Answer["body"]): void {
  if (!body.destroyed) body.on("error", () => {}).destroy();
}

/** What a registry wrote about its refusal, as one short printable line. */
export async function readSaid(answer: Answer): Promise<string> {
  const bytes = await readBody(answer.body, MAX_SAID_BYTES).catch(() => undefined);
  if (bytes === undefined || bytes.length === 0) return "";
  const text = bytes.toString("utf8");
  return printable(distributionMessage(text) ?? (text.trimStart().startsWith("<") ? "an HTML page" : text)).slice(
    0,
    200,
  );
}

/** `Retry-After` as seconds or as a date. */
export function retryAfterMs(answer: Answer, nowMs: number): number | undefined {
  const value = answer.headers["retry-after"];
  if (typeof value !== "string") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

function distributionMessage(text: string): string | undefined {
  try {
    const { errors } = JSON.parse(text) as { errors?: { code?: unknown; message?: unknown }[] };
    const first = errors?.[0];
    return first === undefined
      ? undefined
      : [first.code, first.message].filter((s) => typeof s === "string").join(": ");
  } catch {
    return undefined;
  }
}

function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]+/g, " ").trim();
}

function redirectTarget(location: string, from: URL, subject: Subject): URL {
  let target: URL;
  try {
    target = new URL(location, from);
  } catch {
    throw refused(subject, "REGISTRY_REDIRECTS", `registry ${from.host} redirects to something that is no URL`);
  }
  const downgrade = from.protocol === "https:" && target.protocol === "http:";
  if (downgrade || !/^https?:$/.test(target.protocol)) {
    throw refused(subject, "REGISTRY_REDIRECTS", `${from.host} redirects from ${from.protocol} to ${target.protocol}`);
  }
  return target;
}

function withoutCredentials(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "authorization" && name !== "cookie"));
}
