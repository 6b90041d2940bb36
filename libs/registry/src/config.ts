/** What an operator may set for the registry client, and what is made of it. */

/** Structured-cloneable, so that a worker thread can build its own client from it. */
export interface RegistryClientConfig {
  /** Tries of one request, the first included. Default 5. */
  readonly maxAttempts?: number;
  /** A `Retry-After` beyond this is not waited for. Default 60 s. */
  readonly maxRetryAfterMs?: number;
  /** Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** How long the server may take to begin its answer. Default 30 s. */
  readonly headersTimeoutMs?: number;
  /** A transfer that brings fewer than `stallMinBytes` within `stallWindowMs` is given up. Defaults: 30 s, 30 KiB. */
  readonly stallWindowMs?: number;
  readonly stallMinBytes?: number;
  /** The same for an endpoint after which another can be asked; a route's budgets win. Defaults: 3 s, 8 s, 8 s. */
  readonly mirrorConnectTimeoutMs?: number;
  readonly mirrorHeadersTimeoutMs?: number;
  readonly mirrorStallWindowMs?: number;
  /** Connections per origin. Default 8. */
  readonly connectionsPerOrigin?: number;
  /** First and longest wait between tries. Defaults: 100 ms, 10 s. */
  readonly backoffInitialMs?: number;
  readonly backoffMaxMs?: number;
}

export type ResolvedConfig = Required<RegistryClientConfig>;

export function resolveConfig(given: RegistryClientConfig): ResolvedConfig {
  return {
    maxAttempts: given.maxAttempts ?? 5,
    maxRetryAfterMs: given.maxRetryAfterMs ?? 60_000,
    connectTimeoutMs: given.connectTimeoutMs ?? 10_000,
    headersTimeoutMs: given.headersTimeoutMs ?? 30_000,
    stallWindowMs: given.stallWindowMs ?? 30_000,
    stallMinBytes: given.stallMinBytes ?? 30 * 1024,
    mirrorConnectTimeoutMs: given.mirrorConnectTimeoutMs ?? 3_000,
    mirrorHeadersTimeoutMs: given.mirrorHeadersTimeoutMs ?? 8_000,
    mirrorStallWindowMs: given.mirrorStallWindowMs ?? 8_000,
    connectionsPerOrigin: given.connectionsPerOrigin ?? 8,
    backoffInitialMs: given.backoffInitialMs ?? 100,
    backoffMaxMs: given.backoffMaxMs ?? 10_000,
  };
}
