/** The API on its two ports: services over the store's feeds, behind authentication, validation, metrics and logs. */
import { Lifetime, StatusError } from "@berth/base";
import { Authenticator } from "@berth/identity";
import { HealthService } from "@berth/proto";
import {
  authInterceptor,
  Invoker,
  loggingInterceptor,
  metricsInterceptor,
  serveGrpc,
  serveHttp,
  validationInterceptor,
} from "@berth/rpc/server";
import { findToken, startChangeFeed, startEventFeed, storeError } from "@berth/store";
import type { Metrics } from "@berth/telemetry";
import { operationRoutes } from "../http/operations.ts";
import type { ApiMetrics } from "../metrics.ts";
import { apiServices, type ApiDeps } from "./api.ts";

export type ServedApiDeps = Omit<ApiDeps, "changes" | "events"> & {
  readonly metrics: Metrics;
  readonly apiMetrics: ApiMetrics;
};

interface Address {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface ServedApiConfig {
  readonly grpc: Address;
  readonly http: Address;
  /** How long requests in flight may go on when the API ends. */
  readonly graceMs: number;
  /** How long a token is believed without asking the store: a revocation takes this long. Default 2 s. */
  readonly tokenCacheMs?: number;
}

export interface ServedApi extends AsyncDisposable {
  readonly grpcPort: number;
  readonly httpPort: number;
}

export async function startApi(deps: ServedApiDeps, config: ServedApiConfig): Promise<ServedApi> {
  const lifetime = new Lifetime();
  try {
    return await assemble(lifetime, deps, config);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

async function assemble(lifetime: Lifetime, deps: ServedApiDeps, config: ServedApiConfig): Promise<ServedApi> {
  const { store, logger, checks, metrics, version } = deps;
  const changes = lifetime.own(await startChangeFeed({ store, logger }));
  const events = lifetime.own(await startEventFeed({ store, logger }));
  const services = apiServices({ ...deps, changes, events });
  const authenticator = new Authenticator(
    { findToken: (hash) => findToken(store.db, hash) },
    config.tokenCacheMs === undefined ? {} : { cacheMs: config.tokenCacheMs },
  );
  const interceptors = [
    metricsInterceptor(deps.apiMetrics),
    loggingInterceptor(logger),
    authInterceptor((token) => authenticator.authenticate(token), [HealthService.method.getHealth]),
    validationInterceptor,
  ];
  const invoker = new Invoker(services, interceptors, { errorOf: shownStoreError });
  const { graceMs } = config;
  const extraRoutes = operationRoutes({ checks, metrics, services: services.map(({ service }) => service), version });
  const grpc = lifetime.own(await serveGrpc({ invoker }, { ...config.grpc, graceMs }));
  const http = lifetime.own(await serveHttp({ invoker, logger, extraRoutes }, { ...config.http, graceMs }));
  return {
    grpcPort: grpc.port,
    httpPort: http.port,
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

/** A store that is away is nobody's internal error; where it is, is nobody's business. */
function shownStoreError(error: unknown): StatusError {
  const status = storeError(error);
  if (status.reason !== "STORE_UNAVAILABLE") return status;
  const message = "the controller cannot reach its store at the moment; try again";
  return new StatusError("UNAVAILABLE", message, { reason: status.reason, retryAfterMs: 1_000, cause: error });
}
