/**
 * Authorisation as the distribution spec knows it: nothing, basic, or a bearer token from the service a challenge names.
 *
 * Invariants: credentials go only to the registry they were configured for, and to the token service which that registry
 * itself names, never over plain HTTP unless the registry is configured so; a header is kept per (registry, scope) until it
 * expires; one token request per scope at a time.
 */
import { KeyedLock, type Clock } from "@berth/base";
import { parseChallenges, type Challenge } from "./challenge.ts";
import { fromAnswer, notARegistry, refused, type Subject } from "./errors.ts";
import type { RegistryCredentials } from "./registry.ts";
import type { Authorisation } from "./session.ts";
import { readBody, readSaid, retryAfterMs, type Answer, type Transport } from "./transport.ts";

const MAX_TOKEN_BYTES = 1024 * 1024;
/** The spec's lifetime of a token that names none. */
const DEFAULT_LIFETIME_MS = 60_000;
/** A token this near its end is not used any more. */
const MARGIN_MS = 5_000;
/** Docker's name of a user whose password is an identity token (an OAuth2 refresh token). */
const IDENTITY_USER = "<token>";

export interface AuthDeps {
  readonly transport: Transport;
  readonly clock: Clock;
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

  /** The header in force for a scope, if any. */
  header(host: string, scope: string): string | undefined {
    const known = this.#known.get(key(host, scope));
    return known !== undefined && known.expiresAtMs > this.#deps.clock.nowMs() ? known.header : undefined;
  }

  /** All that is in force for a scope, to be handed to a worker thread. */
  authorisations(host: string, scope: string): Authorisation[] {
    const known = this.#known.get(key(host, scope));
    return known === undefined ? [] : [known];
  }

  /**
   * Answers a 401. Gives the header to try next, or undefined when there is nothing new to try.
   * @param refusedHeader what was sent and refused
   */
  async answer(
    answer: Answer,
    scope: string,
    refusedHeader: string | undefined,
    subject: Subject,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const { host, credentials } = subject.host;
    const challenges = parseChallenges(answer.headers["www-authenticate"]);
    return await this.#lock.run(key(host, scope), async () => {
      const current = this.header(host, scope);
      if (current !== undefined && current !== refusedHeader) return current;
      this.#known.delete(key(host, scope));
      const bearer = challenges.find((c) => c.scheme === "bearer" && c.params.has("realm"));
      if (bearer !== undefined) {
        const authorisation = await this.#token(bearer, scope, subject, signal);
        this.#keep(authorisation);
        return authorisation.header;
      }
      if (credentials === undefined || !challenges.some((c) => c.scheme === "basic")) return undefined;
      const header = basic(credentials);
      if (header === refusedHeader) return undefined;
      this.#keep({ host, scope, header, expiresAtMs: Number.MAX_SAFE_INTEGER });
      return header;
    });
  }

  async #token(
    challenge: Challenge,
    scope: string,
    subject: Subject,
    signal: AbortSignal | undefined,
  ): Promise<Authorisation> {
    const url = realmUrl(challenge, subject);
    const startMs = this.#deps.clock.nowMs();
    const answer = await this.#deps.transport.send({
      ...tokenRequest(url, challenge, scope, subject),
      subject,
      signal,
    });
    if (answer.status !== 200) {
      const said = await readSaid(answer);
      throw fromAnswer(answer.status, retryAfterMs(answer, startMs), `token service ${url.host}: ${said}`, subject);
    }
    const bytes = await readBody(answer.body, MAX_TOKEN_BYTES);
    const { token, lifetimeMs } = parseToken(bytes, url.host, subject);
    const { host } = subject.host;
    return { host, scope, header: `Bearer ${token}`, expiresAtMs: startMs + Math.max(1_000, lifetimeMs - MARGIN_MS) };
  }

  #keep(authorisation: Authorisation): void {
    this.#known.set(key(authorisation.host, authorisation.scope), authorisation);
  }
}

function key(host: string, scope: string): string {
  return `${host} ${scope}`;
}

function basic(credentials: RegistryCredentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`, "utf8").toString("base64")}`;
}

function realmUrl(challenge: Challenge, subject: Subject): URL {
  const { host, plainHttp } = subject.host;
  let url: URL;
  try {
    url = new URL(challenge.params.get("realm")!);
  } catch {
    throw refused(subject, "REGISTRY_ANSWER_INVALID", `registry ${host} names a token service that is no URL`);
  }
  if (url.protocol === "https:" || (url.protocol === "http:" && plainHttp === true)) return url;
  throw refused(
    subject,
    "REGISTRY_DENIED",
    `registry ${host} wants tokens from ${url.protocol}//${url.host}, not HTTPS`,
  );
}

function tokenRequest(url: URL, challenge: Challenge, scope: string, subject: Subject) {
  const { credentials } = subject.host;
  const asked = challenge.params.get("scope") ?? scope;
  const service = challenge.params.get("service");
  const accept = { accept: "application/json" };
  if (credentials?.username === IDENTITY_USER) {
    const form = new URLSearchParams({ grant_type: "refresh_token", client_id: "berth", scope: asked });
    form.set("refresh_token", credentials.password);
    if (service !== undefined) form.set("service", service);
    const headers = { ...accept, "content-type": "application/x-www-form-urlencoded" };
    return { url, method: "POST" as const, headers, body: form.toString() };
  }
  if (service !== undefined) url.searchParams.set("service", service);
  url.searchParams.set("scope", asked);
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
