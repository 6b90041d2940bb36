/**
 * A controller, put together: the store, the brokers' clients, the loops, and last the servers.
 *
 * Invariants: what is started last ends first, so requests end before the loops, and the loops before the store; the ports
 * open only when everything behind them works. Redis and NATS may be away at start: their clients come back by themselves,
 * and /readyz says so.
 */
import { crashAt, Lifetime, noFailpoints, type Logger } from "@berth/base";
import { connectBus, controllerInboxPrefix, type Bus } from "@berth/bus";
import { parseHostPort, type ControllerConfig } from "@berth/config";
import { ensureBootstrapToken } from "@berth/identity";
import { createJobQueues } from "@berth/jobs";
import {
  beginHistory,
  countNodesByPhase,
  countTasksByPhase,
  countWebhooksByPhase,
  hasTokens,
  insertFirstToken,
  openStore,
  outboxDepth,
  type Store,
} from "@berth/store";
import { Metrics } from "@berth/telemetry";
import { startApi } from "./api/serve.ts";
import { makeChecks } from "./http/checks.ts";
import { controllerName, evictionOf, holdTermsOf, overcommitOf, startLoops } from "./loops.ts";
import { makeControllerMetrics } from "./metrics.ts";
import { makeAddressGuard } from "./webhooks/address-guard.ts";
import { makeSender } from "./webhooks/send.ts";

export interface Controller extends AsyncDisposable {
  readonly grpcPort: number;
  readonly httpPort: number;
}

export interface ControllerDeps {
  readonly logger: Logger;
  readonly version: string;
}

export async function startController(deps: ControllerDeps, config: ControllerConfig): Promise<Controller> {
  const lifetime = new Lifetime();
  try {
    return await compose(lifetime, deps, config);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

async function compose(
  lifetime: Lifetime,
  { logger, version }: ControllerDeps,
  config: ControllerConfig,
): Promise<Controller> {
  const store = lifetime.own(
    await openStore({
      url: config.databaseUrl,
      maxConnections: config.databaseConnections,
      logger,
      name: controllerName(),
    }),
  );
  await beginHistory(store);
  await ensureBootstrapToken(bootstrapStore(store, logger), config.bootstrapTokenFile);
  const connect = (name: string): Bus =>
    lifetime.own(connectBus({ url: config.natsUrl, name, inboxPrefix: controllerInboxPrefix, logger }));
  const bus = connect("controller");
  const streamBus = connect("controller streams");
  const queues = lifetime.own(createJobQueues({ redisUrl: config.redisUrl, logger }));
  const metrics = new Metrics();
  const instruments = makeControllerMetrics(metrics, {
    outboxDepth: () => outboxDepth(store.db),
    tasksByPhase: () => countTasksByPhase(store.db),
    nodesByPhase: () => countNodesByPhase(store.db),
    webhooksByPhase: () => countWebhooksByPhase(store.db),
    queuedJobs: () => queues.depth(),
  });
  const failpoint = config.crashAt === undefined ? noFailpoints : crashAt(config.crashAt);
  const sender = lifetime.own(makeSender({ guard: makeAddressGuard(config.webhooks), version }));
  if (!config.serveOnly) {
    await startLoops(lifetime, { store, bus, queues, logger, metrics: instruments, failpoint, sender }, config);
  }
  const checks = makeChecks([
    { name: "postgres", ask: () => store.ping() },
    { name: "redis", ask: () => queues.ping() },
    { name: "nats", ask: () => askBus(bus) },
  ]);
  const api = lifetime.own(
    await startApi(
      {
        store,
        bus,
        streamBus,
        checks,
        logger,
        version,
        metrics,
        apiMetrics: instruments.api,
        failpoint,
        dropQueue: (node) => queues.drop(node),
        overcommit: overcommitOf(config),
        eviction: evictionOf(config),
        holdTerms: holdTermsOf(config),
        webhooks: { sender, secretsDirectory: config.webhooks.secretsDirectory },
      },
      {
        grpc: parseHostPort(config.listen.grpc),
        http: parseHostPort(config.listen.http),
        graceMs: config.drainGraceMs,
      },
    ),
  );
  logger.info({ grpc: config.listen.grpc, http: config.listen.http, version }, "the controller serves");
  return {
    grpcPort: api.grpcPort,
    httpPort: api.httpPort,
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

function bootstrapStore(store: Store, logger: Logger) {
  return {
    logger,
    hasTokens: () => hasTokens(store.db),
    storeFirstToken: (token: { id: string; hash: string; name: string }) =>
      store.transaction((tx) => insertFirstToken(tx, token)),
  };
}

async function askBus(bus: Bus): Promise<void> {
  await bus.connection().flush();
}
