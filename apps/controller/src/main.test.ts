/** The controller as a process: what it needs, what it says, how it ends. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { Lifetime } from "@berth/base";
import { HealthService, NamespaceService, WorkloadService } from "@berth/proto";
import { createGrpcClient } from "@berth/rpc";
import {
  eventually,
  freePort,
  scratchDir,
  startNats,
  startPostgres,
  startRedis,
  type PostgresServer,
  type RedisServer,
} from "@berth/testkit/servers";

const MAIN = join(import.meta.dirname, "main.ts");
const lifetime = new Lifetime();
let dir = "";
let postgres: PostgresServer;
let redis: RedisServer;
let config: Record<string, unknown> = {};
let ports: { grpc: number; http: number };

before(async () => {
  dir = lifetime.own(scratchDir("berth-main")).dir;
  const [postgresServer, redisServer, nats] = await Promise.all([
    startPostgres({ dir: join(dir, "postgres") }),
    startRedis({ dir: join(dir, "redis") }),
    startNats({ dir: join(dir, "nats") }),
  ]);
  postgres = postgresServer;
  redis = redisServer;
  for (const server of [postgres, redis, nats]) lifetime.own(server);
  ports = { grpc: await freePort(), http: await freePort() };
  config = {
    databaseUrl: postgres.url,
    redisUrl: redis.url,
    natsUrl: nats.url,
    listen: { grpc: `127.0.0.1:${ports.grpc}`, http: `127.0.0.1:${ports.http}` },
    bootstrapTokenFile: join(dir, "secrets", "token"),
  };
});
after(() => lifetime[Symbol.asyncDispose]());

function start(settings: Record<string, unknown>, env: NodeJS.ProcessEnv = {}): ChildProcess {
  const file = join(dir, "controller.json");
  writeFileSync(file, JSON.stringify(settings));
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^BERTH_|_URL$/.test(name)));
  const child = spawn(process.execPath, [MAIN, "--config", file], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...clean, ...env },
  });
  lifetime.defer(() => void child.kill("SIGKILL"));
  return child;
}

async function ready(): Promise<void> {
  await eventually("/readyz", async () => {
    const response = await fetch(`http://127.0.0.1:${ports.http}/readyz`);
    await response.arrayBuffer();
    return response.ok;
  });
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<unknown> {
  const exited = once(child, "exit", { signal: AbortSignal.timeout(30_000) });
  child.kill(signal);
  return (await exited)[0];
}

const token = (): string => readFileSync(join(dir, "secrets", "token"), "utf8").trim();
const endpoint = (): string => `127.0.0.1:${ports.grpc}`;

test("the controller starts, writes the first token once, serves, and stops gracefully", async () => {
  const child = start(config);
  const errors = text(child.stderr!);
  await ready();
  assert.equal(statSync(join(dir, "secrets", "token")).mode & 0o777, 0o600);
  const first = token();
  using namespaces = createGrpcClient(NamespaceService, { endpoint: endpoint(), token: first });
  await namespaces.applyNamespace({ namespace: { metadata: { name: "demo" } } });
  using workloads = createGrpcClient(WorkloadService, { endpoint: endpoint(), token: first });
  const snapshot = Promise.withResolvers<void>();
  const watching = (async () => {
    for await (const { event } of workloads.watchWorkloads({ namespace: "-" })) {
      if (event?.type === "SNAPSHOT_END") snapshot.resolve();
    }
  })();
  watching.catch(() => {});
  await snapshot.promise;
  assert.equal(await end(child, "SIGTERM"), 0);
  await assert.rejects(watching, { code: "UNAVAILABLE", reason: "STOPPING" });
  assert.doesNotMatch(await errors, new RegExp(first.slice(-43)), "the token is in no log");

  const again = start(config);
  await ready();
  assert.equal(token(), first);
  using later = createGrpcClient(NamespaceService, { endpoint: endpoint(), token: first });
  assert.equal((await later.getNamespace({ name: "demo" })).metadata?.name, "demo");
  assert.equal(await end(again, "SIGINT"), 0);
});

test("a controller that only serves takes part in no work, and another does what it was asked for", async () => {
  const child = start({ ...config, serveOnly: true });
  await ready();
  using namespaces = createGrpcClient(NamespaceService, { endpoint: endpoint(), token: token() });
  await namespaces.applyNamespace({ namespace: { metadata: { name: "served" } } });
  using workloads = createGrpcClient(WorkloadService, { endpoint: endpoint(), token: token() });
  const spec = { replicas: 1, container: { image: "busybox" } };
  await workloads.applyWorkload({ workload: { metadata: { namespace: "served", name: "web" }, spec } });
  const takingPart = "select 1 from pg_stat_activity where application_name like 'berth locks%'";
  assert.deepEqual(await postgres.query(takingPart), [], "all work is divided by locks, and it has none");
  assert.equal(await end(child, "SIGTERM"), 0);
  const worker = start(config);
  await ready();
  await eventually("the task is made", async () => {
    return (await postgres.query("select 1 from tasks where namespace = 'served'")).length === 1;
  });
  assert.equal(await end(worker, "SIGTERM"), 0);
});

test("the controller goes on while Redis is away, and says so", async () => {
  const child = start(config);
  await ready();
  await redis.kill();
  await eventually("degraded", async () => {
    const response = await fetch(`http://127.0.0.1:${ports.http}/readyz`);
    const { checks } = (await response.json()) as { checks: { name: string; ok: boolean }[] };
    return response.status === 503 && checks.find(({ name }) => name === "redis")?.ok === false;
  });
  assert.equal((await fetch(`http://127.0.0.1:${ports.http}/healthz`)).status, 200);
  using health = createGrpcClient(HealthService, { endpoint: endpoint() });
  assert.equal((await health.getHealth({})).status, "degraded");
  using namespaces = createGrpcClient(NamespaceService, { endpoint: endpoint(), token: token() });
  await namespaces.applyNamespace({ namespace: { metadata: { name: "meanwhile" } } });
  await redis.start();
  await ready();
  assert.equal(await end(child, "SIGTERM"), 0);
});

test("the controller says UNAVAILABLE while Postgres is away, and goes on when it is back", async () => {
  const child = start(config);
  await ready();
  await postgres.kill();
  using namespaces = createGrpcClient(NamespaceService, { endpoint: endpoint(), token: token() });
  await eventually("the outage", async () => {
    await assert.rejects(namespaces.listNamespaces({}), { code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE" });
    return true;
  });
  await postgres.start();
  await ready();
  assert.ok((await namespaces.listNamespaces({})).items.length > 0);
  assert.equal(await end(child, "SIGTERM"), 0);
});

test("the controller refuses a wrong configuration with code 2, naming file and field", async () => {
  const child = start({ ...config, listen: { grpc: "nowhere" } }, { BERTH_LOG_LEVEL: "loud" });
  const [errors, [code]] = await Promise.all([text(child.stderr!), once(child, "exit")]);
  assert.equal(code, 2);
  assert.match(errors, /listen\.grpc: .*controller\.json:1: is not of the form host:port/);
  assert.match(errors, /logLevel: from the environment variable BERTH_LOG_LEVEL/);
});

test("the controller says which address is taken", async () => {
  const child = start(config);
  await ready();
  const second = start(config);
  const [errors, [code]] = await Promise.all([text(second.stderr!), once(second, "exit")]);
  assert.equal(code, 1);
  assert.match(errors, /gRPC cannot listen on 127\.0\.0\.1:\d+; is another controller running\?/);
  assert.equal(await end(child, "SIGTERM"), 0);
});
