/**
 * Requests with redirects followed by hand, and the ends of answers.
 *
 * Invariants: an `authorization` header, a client certificate and an endpoint's own headers never go to another origin than
 * the endpoint's; where a redirect may lead is redirect.ts's rule; at most {@link MAX_REDIRECTS} are followed; an answer is
 * always read, dumped or destroyed; a short answer is read within {@link SHORT_ANSWER_MS}, however it trickles.
 */
import type { Clock } from "@berth/base";
import type { Dispatcher } from "undici";
import { fromSocket, refused, tooSlow, type Subject } from "./errors.ts";
import { requestOver, type Pools } from "./pools.ts";
import { checkTarget, targetOf } from "./redirect.ts";

const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const SAME_METHOD = new Set([307, 308]);
const MAX_SAID_BYTES = 4096;
const SAID_MS = 5_000;
export const SHORT_ANSWER_MS = 30_000;

export interface TransportRequest {
  readonly url: URL;
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly headers: Headers;
  /** An iterable can be sent once only, so that no redirect of it is followed. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  readonly subject: Subject;
  readonly limits: RequestLimits;
  readonly signal: AbortSignal | undefined;
}

export type Headers = Readonly<Record<string, string | string[]>>;

/** How long an endpoint may take to be reached, to begin its answer, and to bring nothing while a body comes. */
export interface RequestLimits {
  readonly connectMs: number;
  readonly answerMs: number;
  readonly stallWindowMs: number;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Dispatcher.ResponseData["body"];
  /** Where the answer came from, after redirects. */
  readonly url: URL;
  /** Did the endpoint itself answer, or somebody to whom it sent us? */
  readonly isOwn: boolean;
  /** An answer to HEAD names the length of a body that does not come. */
  readonly hasBody: boolean;
}

export interface TransportDeps {
  readonly pools: Pools;
  readonly clock: Clock;
}

export class Transport {
  readonly #deps: TransportDeps;

  constructor(deps: TransportDeps) {
    this.#deps = deps;
  }

  get clock(): Clock {
    return this.#deps.clock;
  }

  /** The answer, whatever its status; redirects followed. @throws what {@link fromSocket} makes of a failure */
  async send(request: TransportRequest): Promise<Answer> {
    let { url } = request;
    checkTarget(url, request.subject);
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#once(request, url);
      const location = answer.headers["location"];
      if (!REDIRECTS.has(answer.status) || typeof location !== "string") return answer;
      await this.discard(answer);
      if (redirects >= MAX_REDIRECTS) {
        throw refused(request.subject, "REGISTRY_REDIRECTS", `gave up after ${MAX_REDIRECTS} redirects`);
      }
      checkRepeatable(request, answer.status);
      url = targetOf(location, url, request.subject);
    }
  }

  /** Ends a body that nobody wants. A short one is read, which keeps its connection. */
  async discard({ body, headers, hasBody }: Answer): Promise<void> {
    if (hasBody && !(Number(headers["content-length"] ?? 0) <= MAX_SAID_BYTES)) return abandon(body);
    const ended = new AbortController();
    const timer = this.clock.sleep(SAID_MS, ended.signal).then(
      () => abandon(body),
      () => {},
    );
    await body.dump({ limit: MAX_SAID_BYTES }).catch(() => abandon(body));
    ended.abort();
    await timer;
  }

  /** Reads a short answer of at most `maxBytes`, in bounded time; undefined when there is more, the rest being dropped. */
  async read(
    answer: Answer,
    maxBytes: number,
    subject: Subject,
    withinMs = SHORT_ANSWER_MS,
  ): Promise<Buffer | undefined> {
    const ended = new AbortController();
    const timer = this.clock.sleep(withinMs, ended.signal).then(
      () => void answer.body.destroy(tooSlow(subject, withinMs)),
      () => {},
    );
    try {
      return await readBody(answer.body, maxBytes);
    } finally {
      ended.abort();
      await timer;
    }
  }

  /** What a registry wrote about its refusal, as one short printable line. Of others than the endpoint nothing is quoted. */
  async said(answer: Answer, subject: Subject): Promise<string> {
    if (!answer.isOwn) {
      abandon(answer.body);
      return `said by ${answer.url.host}`;
    }
    const bytes = await this.read(answer, MAX_SAID_BYTES, subject, SAID_MS).catch(() => undefined);
    if (bytes === undefined || bytes.length === 0) return "";
    const text = bytes.toString("utf8");
    const line = distributionMessage(text) ?? (text.trimStart().startsWith("<") ? "an HTML page" : text);
    return printable(line).slice(0, 200);
  }

  async #once(request: TransportRequest, url: URL): Promise<Answer> {
    const { subject, limits, signal, body, method } = request;
    const isOwn = url.origin === subject.endpoint.origin;
    const elsewhere = url.origin !== request.url.origin;
    try {
      const pool = this.#deps.pools.to(url.origin, subject.endpoint, limits.connectMs);
      const answer = await requestOver(pool, {
        path: url.pathname + url.search,
        method,
        headers: {
          ...(isOwn ? subject.endpoint.headers : {}),
          ...(elsewhere ? withoutCredentials(request.headers) : request.headers),
        },
        // An iterable is what undici streams; it has no type of its own there.
        body: (body as Dispatcher.DispatchOptions["body"]) ?? null,
        headersTimeout: limits.answerMs,
        // Otherwise undici would close the connection after a HEAD, lest the server sends a body all the same.
        ...(method === "HEAD" ? { reset: false } : {}),
        signal: signal ?? null,
      });
      const { statusCode: status, headers } = answer;
      return { status, headers, body: answer.body, url, isOwn, hasBody: method !== "HEAD" };
    } catch (error) {
      throw fromSocket(error, subject, signal);
    }
  }
}

/** `Retry-After` as seconds or as a date. */
export function retryAfterMs(answer: Answer, nowMs: number): number | undefined {
  const value = answer.headers["retry-after"];
  if (typeof value !== "string") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** Cuts a body off together with its connection. */
export function abandon(body: Answer["body"]): void {
  if (!body.destroyed) body.on("error", () => {}).destroy();
}

async function readBody(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function checkRepeatable({ method, body, subject }: TransportRequest, status: number): void {
  if (method === "GET" || method === "HEAD") return;
  const once = body !== undefined && typeof body !== "string" && !(body instanceof Uint8Array);
  if (SAME_METHOD.has(status) && !once) return;
  throw refused(
    subject,
    "REGISTRY_REDIRECTS",
    `a ${method} was redirected with status ${status}, which is not followed`,
  );
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

function withoutCredentials(headers: Headers): Headers {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "authorization" && name !== "cookie"));
}
