/**
 * The API alone, without the loops, over a real Postgres and (where asked for) NATS: what a test writes stays as it wrote it.
 * One set of servers for a test file, a fresh database for each API.
 */
import { Lifetime, noFailpoints, silentLogger, uuidv7 } from "@berth/base";
import { connectBus, controllerInboxPrefix, type Bus } from "@berth/bus";
import { makeToken } from "@berth/identity";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import {
  insertNewNodes,
  insertToken,
  lockLeases,
  openStore,
  renewLeases,
  type LeaseRenewal,
  type NewTask,
  type Store,
} from "@berth/store";
import { Metrics } from "@berth/telemetry";
import { scratchDir, startNats, startPostgres, type NatsServer, type PostgresServer } from "@berth/testkit/servers";
import type { DescService } from "@bufbuild/protobuf";
import { startApi } from "../api/serve.ts";
import { makeChecks } from "../http/checks.ts";
import { makeControllerMetrics } from "../metrics.ts";
import { makeAddressGuard } from "../webhooks/address-guard.ts";
import { makeSender } from "../webhooks/send.ts";
import { NO_OVERCOMMIT } from "../placement/fleet.ts";
import { evictionConfig } from "../reconcile/fleet.ts";

export interface TestServers extends AsyncDisposable {
  readonly postgres: PostgresServer;
  readonly nats: NatsServer;
  api(): Promise<TestApi>;
}

export interface TestApi extends AsyncDisposable {
  readonly store: Store;
  readonly bus: Bus;
  readonly token: string;
  readonly tokenId: string;
  readonly grpcEndpoint: string;
  readonly url: string;
  /** As the admin, or with another token ("" for none). */
  client<S extends DescService>(service: S, token?: string): GrpcClient<S>;
  /** An HTTP call as the admin. */
  http(method: string, path: string, body?: unknown): Promise<HttpAnswer>;
}

export interface HttpAnswer {
  readonly status: number;
  readonly json: unknown;
  /** What stands at a path of the JSON; undefined where there is nothing. */
  at(...path: (string | number)[]): unknown;
}

export async function startTestServers(): Promise<TestServers> {
  const lifetime = new Lifetime();
  const scratch = lifetime.own(scratchDir("berth-api"));
  const [postgres, nats] = await Promise.all([
    startPostgres({ dir: `${scratch.dir}/postgres` }),
    startNats({ dir: `${scratch.dir}/nats` }),
  ]);
  lifetime.own(postgres);
  lifetime.own(nats);
  let count = 0;
  return {
    postgres,
    nats,
    async api() {
      count += 1;
      return await startTestApi(await postgres.createDatabase(`api${count}`), nats.url);
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

async function startTestApi(databaseUrl: string, natsUrl: string): Promise<TestApi> {
  const lifetime = new Lifetime();
  const logger = silentLogger;
  const store = lifetime.own(await openStore({ url: databaseUrl }));
  const bus = lifetime.own(connectBus({ url: natsUrl, name: "api", inboxPrefix: controllerInboxPrefix, logger }));
  await bus.connected();
  const { text: token, id: tokenId, hash } = makeToken();
  await insertToken(store.db, { id: tokenId, hash, name: "admin" });
  const metrics = new Metrics({ processMetrics: false });
  const readings = {
    outboxDepth: async () => 3,
    tasksByPhase: async () => [],
    nodesByPhase: async () => [],
    webhooksByPhase: async () => [],
  };
  const { api: apiMetrics } = makeControllerMetrics(metrics, readings);
  const checks = makeChecks([{ name: "postgres", ask: () => store.ping() }]);
  const guard = makeAddressGuard({ allowPrivate: false, allowCidrs: ["127.0.0.1/32"] });
  const sender = lifetime.own(makeSender({ guard, version: "1.2.3" }));
  const served = lifetime.own(
    await startApi(
      {
        store,
        bus,
        streamBus: bus,
        checks,
        metrics,
        apiMetrics,
        logger,
        version: "1.2.3",
        dropQueue: async () => {},
        failpoint: noFailpoints,
        overcommit: NO_OVERCOMMIT,
        eviction: evictionConfig({}),
        holdTerms: { ttlMs: 500, slackMs: 300 },
        webhooks: { sender },
      },
      { grpc: { host: "127.0.0.1", port: 0 }, http: { host: "127.0.0.1", port: 0 }, graceMs: 500, tokenCacheMs: 50 },
    ),
  );
  const grpcEndpoint = `127.0.0.1:${served.grpcPort}`;
  const url = `http://127.0.0.1:${served.httpPort}`;
  return {
    store,
    bus,
    token,
    tokenId,
    grpcEndpoint,
    url,
    client: (service, other = token) =>
      lifetime.own(createGrpcClient(service, { endpoint: grpcEndpoint, ...(other === "" ? {} : { token: other }) })),
    async http(method, path, body) {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const json: unknown = await response.json();
      return {
        status: response.status,
        json,
        at: (...keys) =>
          keys.reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], json),
      };
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

/** A node as its first lease request makes it; a negative lease is over. */
export async function addNode(
  store: Store,
  name: string,
  labels: Record<string, string> = {},
  ttlMs = 60_000,
  features: readonly string[] = [],
): Promise<void> {
  const renewal: LeaseRenewal = {
    name,
    agentLabels: labels,
    machineId: "",
    phase: "Ready",
    conditions: [],
    cpuMillis: 4_000,
    memoryBytes: 2 ** 32,
    maxTasks: 100,
    diskBytes: 2 ** 40,
    runtimeHandlers: ["runc"],
    snapshotters: ["overlayfs"],
    agentVersion: "1",
    features,
    kernelVersion: "6",
    address: "192.0.2.1",
    bootId: "boot",
    instance: `instance-${name}`,
    journalEpoch: "e1",
    journalHeadSeq: 0,
    appliedRevision: 0,
    takenRevision: 0,
    appliedStoreEpoch: "",
    shard: 0,
  };
  await store.transaction(async (tx) => {
    await insertNewNodes(tx, [renewal]);
    await lockLeases(tx, [name]);
    await renewLeases(tx, [renewal], ttlMs, new Set([name]));
  });
}

/** A task as the reconciler makes it. */
export function newTask(namespace: string, name: string): NewTask {
  return {
    uid: uuidv7(),
    namespace,
    name,
    labels: { app: "web" },
    workload: "web",
    workloadUid: uuidv7(),
    workloadGeneration: 1,
    slot: 0,
    pinnedNode: null,
    container: { image: "a" },
    cpuMillis: 0,
    memoryBytes: 0,
    hostPorts: [],
    beginsAgain: "always",
    fence: false,
  };
}
