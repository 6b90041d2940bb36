/**
 * Postgres, Redis and NATS, and real controllers in front of simulated nodes: they hold leases, take no jobs, and say what
 * a benchmark has them say. A fresh database for each controller, so that no run finds what another left.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Lifetime, silentLogger, StatusError, uuidv7 } from "@berth/base";
import { connectBus, controllerInboxPrefix, leaseEndpoint, type Bus } from "@berth/bus";
import { createJobQueues, type JobQueues } from "@berth/jobs";
import { LeaseRequestSchema, NamespaceService, WorkloadService } from "@berth/proto";
import { createGrpcClient, type GrpcClient } from "@berth/rpc";
import {
  createControllerProcess,
  flushRedis,
  freePort,
  startNats,
  startPostgres,
  startRedis,
  type NatsServer,
  type PostgresServer,
  type RedisServer,
} from "@berth/testkit";
import { create } from "@bufbuild/protobuf";
import { Redis } from "ioredis";
import postgres, { type Sql } from "postgres";
import type { Bench } from "./bench.ts";

const NODES = 20;
/** A run is over long before it: nobody has to renew. */
const LEASE_MS = 600_000;
export const NAMESPACE = "bench";

export interface Servers {
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
  readonly nats: NatsServer;
}

export interface SimulatedNode {
  readonly name: string;
  /** Of its journal's subject. */
  readonly shard: number;
  readonly epoch: string;
}

export interface ControlPlane extends AsyncDisposable {
  readonly nodes: readonly SimulatedNode[];
  readonly workloads: GrpcClient<typeof WorkloadService>;
  readonly bus: Bus;
  readonly sql: Sql;
  readonly redis: Redis;
  readonly queues: JobQueues;
  /** Jobs that wait, in all queues. */
  waitingJobs(): Promise<number>;
}

export async function startServers({ lifetime, dir }: Bench): Promise<Servers> {
  return {
    postgres: lifetime.own(await startPostgres({ dir: join(dir, "postgres") })),
    redis: lifetime.own(await startRedis({ dir: join(dir, "redis") })),
    nats: lifetime.own(await startNats({ dir: join(dir, "nats") })),
  };
}

/** A controller on an empty database, an empty Redis and an empty NATS, with its nodes ready. Belongs to the caller. */
export async function startControlPlane(bench: Bench, servers: Servers, label: string): Promise<ControlPlane> {
  const lifetime = new Lifetime(bench.lifetime.signal);
  try {
    return await assemble(lifetime, join(bench.dir, label), servers, label);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

async function assemble(lifetime: Lifetime, dir: string, servers: Servers, label: string): Promise<ControlPlane> {
  const databaseUrl = await servers.postgres.createDatabase(label);
  await flushRedis(servers.redis);
  await servers.nats.wipe();
  const tokenFile = join(dir, "token");
  const listen = { grpc: `127.0.0.1:${await freePort()}`, http: `127.0.0.1:${await freePort()}` };
  const controller = lifetime.own(
    createControllerProcess({
      dir,
      config: {
        databaseUrl,
        redisUrl: servers.redis.url,
        natsUrl: servers.nats.url,
        listen,
        bootstrapTokenFile: tokenFile,
        lease: { ttlMs: LEASE_MS, renewMs: LEASE_MS / 4 },
        logLevel: "warn",
      },
    }),
  );
  await controller.start();
  const token = readFileSync(tokenFile, "utf8").trim();
  const namespaces = lifetime.own(createGrpcClient(NamespaceService, { endpoint: listen.grpc, token }));
  await namespaces.applyNamespace({ namespace: { metadata: { name: NAMESPACE } } });
  const workloads = lifetime.own(createGrpcClient(WorkloadService, { endpoint: listen.grpc, token }));
  const sql = postgres(databaseUrl, { max: 2, onnotice: () => {} });
  lifetime.defer(() => sql.end({ timeout: 5 }));
  const redis = new Redis(servers.redis.url);
  lifetime.defer(() => redis.disconnect());
  const queues = lifetime.own(createJobQueues({ redisUrl: servers.redis.url, logger: silentLogger }));
  const bus = lifetime.own(
    connectBus({
      url: servers.nats.url,
      name: "bench",
      inboxPrefix: `${controllerInboxPrefix}.bench`,
      logger: silentLogger,
    }),
  );
  await bus.connected();
  const nodes = await Promise.all(Array.from({ length: NODES }, (_, index) => holdLease(bus, `node-${index + 1}`)));
  const names = nodes.map(({ name }) => name);
  const waitingJobs = (): Promise<number> => queues.depth(names);
  return {
    nodes,
    workloads,
    bus,
    sql,
    redis,
    queues,
    waitingJobs,
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

async function holdLease(bus: Bus, name: string): Promise<SimulatedNode> {
  const epoch = uuidv7();
  const request = create(LeaseRequestSchema, {
    node: name,
    bootId: "bench",
    instance: uuidv7(),
    agentVersion: "0.1.0",
    capacity: { cpuMillis: 64_000n, memoryBytes: 1n << 38n, tasks: 10_000, diskBytes: 1n << 40n },
    runtimeHandlers: ["runc"],
    snapshotters: ["overlayfs"],
    conditions: [{ type: "Ready", status: "True" }],
    journalEpoch: epoch,
  });
  const reply = await bus.request(leaseEndpoint, name, request);
  if (reply.refused !== "") {
    throw new StatusError("FAILED_PRECONDITION", `node ${name} got no lease: ${reply.refused}`);
  }
  return { name, shard: reply.shard, epoch };
}
