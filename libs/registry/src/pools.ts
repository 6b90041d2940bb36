/** Pools of connections, one per origin and way of connecting; TLS contexts are made once per pool, not per connection. */
import { createSecureContext, getCACertificates } from "node:tls";
// Its parts that are needed: all of undici (fetch, WebSocket, caches, mocks) takes 15 MB and 50 ms more, in the agent and in
// each of its threads.
import request from "undici/lib/api/api-request.js";
import Pool from "undici/lib/dispatcher/pool.js";
import type { Dispatcher } from "undici";
import { guardedLookup, mayLoopBack } from "./redirect.ts";
import type { Endpoint } from "./routes/endpoint.ts";

export interface PoolsConfig {
  readonly connectionsPerOrigin: number;
}

export class Pools implements AsyncDisposable {
  /** By all that makes a difference. */
  readonly #pools = new Map<string, Pool>();
  /** The short way there: certificates are long. */
  #byEndpoint = new WeakMap<Endpoint, Map<string, Pool>>();
  readonly #config: PoolsConfig;

  constructor(config: PoolsConfig) {
    this.#config = config;
  }

  /**
   * Connections to an origin on behalf of an endpoint: its own, or one that it sent us to. The latter gets the endpoint's
   * trust (CA, skipVerify) but not its client certificates.
   */
  to(origin: string, endpoint: Endpoint, connectTimeoutMs: number): Pool {
    let known = this.#byEndpoint.get(endpoint);
    if (known === undefined) this.#byEndpoint.set(endpoint, (known = new Map()));
    const short = `${origin} ${connectTimeoutMs}`;
    let pool = known.get(short);
    if (pool === undefined) known.set(short, (pool = this.#open(origin, endpoint, connectTimeoutMs)));
    return pool;
  }

  /** The pool of other endpoints with the same settings, or a new one. */
  #open(origin: string, endpoint: Endpoint, connectTimeoutMs: number): Pool {
    const own = origin === endpoint.origin;
    const loopBack = own || mayLoopBack(endpoint.origin);
    const tls = origin.startsWith("https:")
      ? { ca: endpoint.ca, client: own ? endpoint.client : [], skipVerify: endpoint.skipVerify }
      : undefined;
    const key = JSON.stringify([origin, own, loopBack, connectTimeoutMs, tls]);
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      pool = new Pool(origin, {
        connections: this.#config.connectionsPerOrigin,
        bodyTimeout: 0,
        allowH2: false,
        connect: {
          timeout: connectTimeoutMs,
          ...(own ? {} : { lookup: guardedLookup(loopBack) }),
          ...(tls === undefined ? {} : tlsOptions(tls)),
        },
      });
      this.#pools.set(key, pool);
    }
    return pool;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    this.#byEndpoint = new WeakMap();
    await Promise.all(pools.map((pool) => pool.destroy()));
  }
}

/** One request over a pool. */
export function requestOver(pool: Pool, options: Dispatcher.RequestOptions): Promise<Dispatcher.ResponseData> {
  return request.call(pool, options);
}

function tlsOptions({ ca, client, skipVerify }: Pick<Endpoint, "ca" | "client" | "skipVerify">) {
  const plain = ca.length === 0 && client.length === 0;
  const context = plain
    ? {}
    : {
        secureContext: createSecureContext({
          ...(ca.length === 0 ? {} : { ca: [...getCACertificates("default"), ...ca] }),
          cert: client.map(({ cert }) => cert),
          key: client.map(({ key }) => key),
        }),
      };
  return { rejectUnauthorized: !skipVerify, ...context };
}
