/**
 * One question, asked of a registry's endpoints in order until one answers; and again after a while if none could.
 *
 * Invariants:
 *  - Mirrors that failed lately are passed by (health.ts); the registry itself never is. When nobody else had an answer that
 *    counts, the mirrors that were passed by are asked after all.
 *  - A mirror's refusal of any kind, "not found" included, sends the question on; the registry's own word is final.
 *  - An endpoint after which another may be asked has seconds only; the registry itself has the long limits.
 *  - The error names what every endpoint said.
 */
import { isTransient, retry, StatusError, type Clock, type Logger } from "@berth/base";
import type { ResolvedConfig } from "./config.ts";
import type { CredentialStore } from "./credentials/store.ts";
import { nameOf, type Subject } from "./errors.ts";
import type { Health, HealthMemory } from "./health.ts";
import type { Endpoint } from "./routes/endpoint.ts";
import type { EndpointCapability } from "./routes/route.ts";
import type { RequestLimits } from "./transport.ts";

export interface FailoverDeps {
  readonly endpoints: (registry: string) => readonly Endpoint[];
  readonly health: HealthMemory;
  readonly credentials: CredentialStore;
  readonly config: ResolvedConfig;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface Question {
  readonly registry: string;
  /** What an endpoint must be good for. */
  readonly needs: readonly EndpointCapability[];
  /** For errors: `image X`, `blob Y of Z`. */
  readonly what: string;
  readonly missing: { readonly reason: string };
  readonly signal: AbortSignal | undefined;
  /** Asks the first endpoint alone: for what has to go to one place. */
  readonly firstOnly?: boolean;
}

/** One endpoint's turn. */
export interface Attempt {
  readonly endpoint: Endpoint;
  readonly subject: Subject;
  readonly limits: RequestLimits;
  readonly stallMinBytes: number;
  readonly signal: AbortSignal | undefined;
  /** Says that the outcome is not known yet when the question's body returns: {@link ended} will be called. */
  pending(): void;
  /** A stream's end: undefined for a good one. */
  ended(error: unknown): void;
}

interface Failure {
  readonly endpoint: Endpoint;
  readonly error: StatusError;
}

export class Failover {
  readonly #deps: FailoverDeps;

  constructor(deps: FailoverDeps) {
    this.#deps = deps;
  }

  async run<T>(question: Question, body: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { config, clock, logger } = this.#deps;
    const { backoffInitialMs, backoffMaxMs, maxAttempts, maxRetryAfterMs } = config;
    return await retry((round) => this.#round(question, body, round), {
      maxAttempts,
      clock,
      backoff: { initialMs: backoffInitialMs, maxMs: backoffMaxMs, factor: 2 },
      signal: question.signal,
      retryable: (error) => isTransient(error) && (StatusError.from(error).retryAfterMs ?? 0) <= maxRetryAfterMs,
      onRetry: (error, attempt, waitMs) =>
        logger.debug({ reason: error.reason, attempt, waitMs }, `${question.what}: trying again`),
    });
  }

  /** The endpoints that may be asked, in order. @throws FAILED_PRECONDITION `REGISTRY_CAPABILITY` when there is none */
  capable({ registry, needs, what, firstOnly }: Omit<Question, "missing" | "signal">): readonly Endpoint[] {
    const all = this.#deps.endpoints(registry);
    const fit = all.filter(({ capabilities }) => needs.every((need) => capabilities.includes(need)));
    if (fit.length > 0) return firstOnly === true ? fit.slice(0, 1) : fit;
    const source = all.find((endpoint) => endpoint.source !== undefined)?.source;
    const text = `${what}: no endpoint of registry ${registry} may ${needs.join(" and ")}; see capabilities in ${source}`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "REGISTRY_CAPABILITY" });
  }

  async #round<T>(question: Question, body: (attempt: Attempt) => Promise<T>, round: number): Promise<T> {
    const endpoints = this.capable(question);
    const only = endpoints.length === 1;
    const failures: Failure[] = [];
    const skipped: Endpoint[] = [];
    const ask = async (endpoint: Endpoint, seen: Health): Promise<{ readonly result: T } | undefined> => {
      const turn = new Turn(this.#deps, question, endpoint, only, seen);
      try {
        const result = await body(turn);
        turn.returned();
        return { result };
      } catch (error) {
        if (!(error instanceof StatusError) || question.signal?.aborted === true) throw error;
        turn.ended(error);
        failures.push({ endpoint, error });
        if (!only) this.#deps.logger.debug({ endpoint: endpoint.origin, reason: error.reason }, error.message);
        return undefined;
      }
    };
    for (const endpoint of endpoints) {
      const seen = this.#deps.health.look(keyOf(endpoint));
      if (only || endpoint.isOrigin || this.#deps.health.claim(keyOf(endpoint), seen, this.#deps.clock.monotonicMs())) {
        const answer = await ask(endpoint, seen);
        if (answer !== undefined) return answer.result;
      } else skipped.push(endpoint);
    }
    // Without the registry itself nobody's "not found" is final.
    const final = endpoints.some(({ isOrigin }) => isOrigin);
    if (!final || (round === 1 && failures.every(({ error }) => isTransient(error)))) {
      for (const endpoint of skipped) {
        const answer = await ask(endpoint, this.#deps.health.look(keyOf(endpoint)));
        if (answer !== undefined) return answer.result;
      }
    }
    throw combined(question, this.#deps.endpoints(question.registry), failures);
  }
}

class Turn implements Attempt {
  readonly endpoint: Endpoint;
  readonly subject: Subject;
  readonly limits: RequestLimits;
  readonly stallMinBytes: number;
  readonly signal: AbortSignal | undefined;
  readonly #deps: FailoverDeps;
  readonly #only: boolean;
  readonly #seen: Health;
  #pending = false;

  constructor(deps: FailoverDeps, question: Question, endpoint: Endpoint, only: boolean, seen: Health) {
    this.#deps = deps;
    this.#only = only;
    this.#seen = seen;
    this.endpoint = endpoint;
    this.signal = question.signal;
    this.limits = limitsOf(endpoint, deps.config, only || endpoint.isOrigin);
    this.stallMinBytes = (deps.config.stallMinBytes * this.limits.stallWindowMs) / deps.config.stallWindowMs;
    this.subject = {
      endpoint,
      what: question.what,
      missing: question.missing,
      username: () => deps.credentials.known(endpoint)?.username,
    };
  }

  pending(): void {
    this.#pending = true;
  }

  returned(): void {
    if (!this.#pending) this.ended(undefined);
  }

  ended(error: unknown): void {
    const { health, clock } = this.#deps;
    // Where there is nothing to choose there is nothing to remember.
    if (this.#only || this.signal?.aborted === true) return;
    if (error === undefined || isRefusal(error)) {
      if (this.#seen.failures > 0n) health.succeeded(keyOf(this.endpoint));
      return;
    }
    const { retryAfterMs = 0 } = StatusError.from(error);
    health.failed(keyOf(this.endpoint), this.#seen, clock.monotonicMs(), retryAfterMs);
  }
}

/** An answer of a server in good health. */
function isRefusal(error: unknown): boolean {
  return error instanceof StatusError && ["NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED"].includes(error.code);
}

function keyOf({ origin, apiRoot }: Endpoint): string {
  return origin + apiRoot;
}

function limitsOf({ budgets, dialTimeoutMs }: Endpoint, config: ResolvedConfig, final: boolean): RequestLimits {
  if (final) {
    return {
      connectMs: dialTimeoutMs ?? config.connectTimeoutMs,
      answerMs: config.headersTimeoutMs,
      stallWindowMs: config.stallWindowMs,
    };
  }
  return {
    connectMs: dialTimeoutMs ?? budgets.dialMs ?? Math.min(config.mirrorConnectTimeoutMs, config.connectTimeoutMs),
    answerMs: budgets.answerMs ?? Math.min(config.mirrorHeadersTimeoutMs, config.headersTimeoutMs),
    stallWindowMs: budgets.stallMs ?? Math.min(config.mirrorStallWindowMs, config.stallWindowMs),
  };
}

/** The error that counts, with what the other endpoints said. */
function combined(question: Question, all: readonly Endpoint[], failures: readonly Failure[]): StatusError {
  const main =
    failures.find(({ endpoint }) => endpoint.isOrigin) ??
    failures.find(({ error }) => isTransient(error)) ??
    failures.at(-1)!;
  const others = failures.filter((failure) => failure !== main);
  const final = all.some(({ isOrigin }) => isOrigin) || question.firstOnly === true;
  if (others.length === 0 && final) return main.error;
  const said = others.map(({ endpoint, error }) => error.message.replace(`${question.what}: `, "") || nameOf(endpoint));
  const { source } = main.endpoint;
  const off = final
    ? []
    : [`falling back to the registry itself is switched off${source === undefined ? "" : ` in ${source}`}`];
  const { code, reason, details, retryAfterMs, violations } = main.error;
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  const text = [main.error.message, ...said, ...off].join("; ");
  return new StatusError(code, text, { reason, details, violations, ...wait, cause: main.error });
}
