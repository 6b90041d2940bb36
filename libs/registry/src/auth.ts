/**
 * Authorisation as the distribution spec knows it: nothing, basic, or a bearer token from the service a challenge names.
 *
 * Invariants: credentials go only to the endpoint for whose host they were configured, and to the token service which that
 * endpoint itself names, never over plain HTTP unless the endpoint is configured so; a header is kept per (endpoint, scope)
 * until it expires; one token request per scope at a time.
 */
import { KeyedLock, type Clock } from "@berth/base";
import { parseChallenges, type Challenge } from "./challenge.ts";
import type { CredentialStore } from "./credentials/store.ts";
import { fromAnswer, fromBrokenBody, nameOf, notARegistry, refused, type Subject } from "./errors.ts";
import { IDENTITY_USER, type RegistryCredentials } from "./registry.ts";
import type { Authorisation } from "./session.ts";
import { retryAfterMs, type Answer, type RequestLimits, type Transport } from "./transport.ts";

const MAX_TOKEN_BYTES = 1024 * 1024;
/** The spec's lifetime of a token that names none. */
const DEFAULT_LIFETIME_MS = 60_000;
/** A token this near its end is not used any more. */
const MARGIN_MS = 5_000;

export interface AuthDeps {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly credentials: CredentialStore;
  readonly known: readonly Authorisation[];
}

export class Authoriser {
  readonly #deps: AuthDeps;
  readonly #known = new Map<string, Authorisation>();
  readonly #lock = new KeyedLock();

  constructor(deps: AuthDeps) {
    this.#deps = deps;
    for (const authorisation of deps.known) this.#keep(authorisation);
  }

  /** The header in force for a scope, if any. @param origin of the endpoint */
  header(origin: string, scope: string): string | undefined {
    const known = this.#known.get(key(origin, scope));
    return known !== undefined && known.expiresAtMs > this.#deps.clock.nowMs() ? known.header : undefined;
  }

  /** All that is in force for a scope, to be handed to a worker thread. */
  authorisations(origin: string, scope: string): Authorisation[] {
    const known = this.#known.get(key(origin, scope));
    return known === undefined ? [] : [known];
  }

  /**
   * Answers a 401. Gives the header to try next, or undefined when there is nothing new to try.
   * @param refusedHeader what was sent and refused
   */
  async answer(answer: Answer, ask: AuthAsk, refusedHeader: string | undefined): Promise<string | undefined> {
    const { scope, subject } = ask;
    const { origin } = subject.endpoint;
    const challenges = parseChallenges(answer.headers["www-authenticate"]);
    return await this.#lock.run(key(origin, scope), async () => {
      const current = this.header(origin, scope);
      if (current !== undefined && current !== refusedHeader) return current;
      this.#known.delete(key(origin, scope));
      if (refusedHeader !== undefined) this.#deps.credentials.forget(subject.endpoint);
      const credentials = await this.#deps.credentials.find(subject.endpoint, ask.signal);
      const bearer = challenges.find((c) => c.scheme === "bearer" && c.params.has("realm"));
      if (bearer !== undefined) {
        const authorisation = await this.#token(bearer, credentials, ask);
        this.#keep(authorisation);
        return authorisation.header;
      }
      // An identity token is for token services only.
      if (credentials === undefined || credentials.username === IDENTITY_USER) return undefined;
      if (!challenges.some((c) => c.scheme === "basic")) return undefined;
      const header = basic(credentials);
      if (header === refusedHeader) return undefined;
      this.#keep({ origin, scope, header, expiresAtMs: Number.MAX_SAFE_INTEGER });
      return header;
    });
  }

  async #token(
    challenge: Challenge,
    credentials: RegistryCredentials | undefined,
    { scope, subject, limits, signal }: AuthAsk,
  ): Promise<Authorisation> {
    const { transport, clock } = this.#deps;
    const url = realmUrl(challenge, subject);
    const startMs = clock.nowMs();
    const request = tokenRequest(url, challenge, scope, credentials);
    const answer = await transport.send({ ...request, subject, limits, signal });
    if (answer.status !== 200) {
      const said = await transport.said(answer, subject);
      throw fromAnswer(answer.status, retryAfterMs(answer, startMs), `token service ${url.host}: ${said}`, subject);
    }
    const bytes = await transport.read(answer, MAX_TOKEN_BYTES, subject).catch((error: unknown) => {
      throw fromBrokenBody(error, subject, signal);
    });
    const { token, lifetimeMs } = parseToken(bytes, url.host, subject);
    const { origin } = subject.endpoint;
    return { origin, scope, header: `Bearer ${token}`, expiresAtMs: startMs + Math.max(1_000, lifetimeMs - MARGIN_MS) };
  }

  #keep(authorisation: Authorisation): void {
    this.#known.set(key(authorisation.origin, authorisation.scope), authorisation);
  }
}

/** The request that was answered with 401. */
export interface AuthAsk {
  /** One or more scopes with spaces between. */
  readonly scope: string;
  readonly subject: Subject;
  readonly limits: RequestLimits;
  readonly signal: AbortSignal | undefined;
}

function key(origin: string, scope: string): string {
  return `${origin} ${scope}`;
}

function basic(credentials: RegistryCredentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`, "utf8").toString("base64")}`;
}

function realmUrl(challenge: Challenge, subject: Subject): URL {
  const name = nameOf(subject.endpoint);
  let url: URL;
  try {
    url = new URL(challenge.params.get("realm")!);
  } catch {
    throw refused(subject, "REGISTRY_ANSWER_INVALID", `${name} names a token service that is no URL`);
  }
  const plain = subject.endpoint.origin.startsWith("http:");
  if (url.protocol === "https:" || (url.protocol === "http:" && plain)) return url;
  throw refused(subject, "REGISTRY_DENIED", `${name} wants tokens from ${url.protocol}//${url.host}, not HTTPS`);
}

function tokenRequest(url: URL, challenge: Challenge, scope: string, credentials: RegistryCredentials | undefined) {
  const scopes = [...new Set([...(challenge.params.get("scope") ?? "").split(" "), ...scope.split(" ")])].filter(
    Boolean,
  );
  const service = challenge.params.get("service");
  const accept = { accept: "application/json" };
  if (credentials?.username === IDENTITY_USER) {
    const form = new URLSearchParams({ grant_type: "refresh_token", client_id: "berth", scope: scopes.join(" ") });
    form.set("refresh_token", credentials.password);
    if (service !== undefined) form.set("service", service);
    const headers = { ...accept, "content-type": "application/x-www-form-urlencoded" };
    return { url, method: "POST" as const, headers, body: form.toString() };
  }
  if (service !== undefined) url.searchParams.set("service", service);
  for (const each of scopes) url.searchParams.append("scope", each);
  const headers = credentials === undefined ? accept : { ...accept, authorization: basic(credentials) };
  return { url, method: "GET" as const, headers };
}

function parseToken(bytes: Buffer | undefined, service: string, subject: Subject) {
  let reply: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null = null;
  try {
    reply = bytes === undefined ? null : JSON.parse(bytes.toString("utf8"));
  } catch {
    // Falls through to the error below, which says the same for every unusable reply.
  }
  const token = reply?.token || reply?.access_token;
  if (typeof token !== "string" || !/^[\x21-\x7e]+$/.test(token)) {
    throw notARegistry(subject, `sent us to token service ${service}, which gave no token`);
  }
  const seconds = reply?.expires_in;
  return { token, lifetimeMs: typeof seconds === "number" && seconds > 0 ? seconds * 1000 : DEFAULT_LIFETIME_MS };
}
