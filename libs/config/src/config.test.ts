import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { StatusError } from "@berth/base";
import { loadAgentConfig } from "./agent.ts";
import { loadControllerConfig } from "./controller.ts";
import { parseHostPort } from "./fields.ts";

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "berth-config-"));
});
after(() => rm(dir, { recursive: true, force: true }));

const servers = {
  DATABASE_URL: "postgres://u:hunter2@db/berth",
  REDIS_URL: "redis://r:6379",
  NATS_URL: "nats://n:4222",
};

async function file(name: string, text: string): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, text);
  return path;
}

async function refusal(loading: Promise<unknown>): Promise<StatusError> {
  try {
    await loading;
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    return error;
  }
  return assert.fail("the configuration was taken");
}

test("loadControllerConfig fills the defaults from the environment alone and freezes deeply", async () => {
  const config = await loadControllerConfig({ env: servers });
  assert.equal(config.listen.grpc, "127.0.0.1:7700");
  assert.equal(config.listen.http, "127.0.0.1:7701");
  assert.deepEqual(config.lease, { ttlMs: 15_000, renewMs: 3_000, fenceSlackMs: 5_000, maxRenewalsPerSecond: 200 });
  assert.equal(config.resyncMs, 30_000);
  assert.deepEqual(config.placement, { cpuOvercommitPercent: 100, memoryOvercommitPercent: 100 });
  assert.equal(config.crashAt, undefined);
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.lease) && Object.isFrozen(config.listen));
});

test("loadControllerConfig lets the environment win over the file", async () => {
  const path = await file(
    "c.yaml",
    "databaseUrl: postgres://file/x\nlisten:\n  grpc: 127.0.0.1:1\n  http: 127.0.0.1:2\n",
  );
  const config = await loadControllerConfig({ file: path, env: { ...servers, BERTH_LISTEN_HTTP: "127.0.0.1:3" } });
  assert.equal(config.databaseUrl, servers.DATABASE_URL);
  assert.deepEqual(config.listen, { grpc: "127.0.0.1:1", http: "127.0.0.1:3" });
});

test("loadControllerConfig says how to set what is missing", async () => {
  const error = await refusal(loadControllerConfig({ env: {} }));
  assert.equal(error.code, "INVALID_ARGUMENT");
  assert.deepEqual(
    error.violations.map((v) => v.field),
    ["databaseUrl", "redisUrl", "natsUrl"],
  );
  assert.match(error.message, /databaseUrl: is missing; .*environment variable DATABASE_URL/);
});

test("loadControllerConfig names file, line and field of a wrong value, and never the value", async () => {
  const path = await file("wrong.yaml", "redisUrl: http://user:hunter2@r\nlease:\n  ttlMs: fast\nlogLevl: info\n");
  const error = await refusal(loadControllerConfig({ file: path, env: { ...servers, REDIS_URL: undefined } }));
  assert.match(error.message, /redisUrl: .*wrong\.yaml:1: is not a URL of the form redis:/);
  assert.match(error.message, /lease\.ttlMs: .*wrong\.yaml:3: /);
  assert.match(error.message, /logLevl: .*wrong\.yaml:4: is not a field/);
  assert.doesNotMatch(error.message, /hunter2/);
});

test("loadControllerConfig names the environment variable of a wrong value", async () => {
  const error = await refusal(loadControllerConfig({ env: { ...servers, BERTH_LISTEN_GRPC: "nowhere" } }));
  assert.match(
    error.message,
    /listen\.grpc: from the environment variable BERTH_LISTEN_GRPC: is not of the form host:port/,
  );
});

test("loadControllerConfig refuses a renewal that one lost request would turn into a lost lease", async () => {
  const path = await file("lease.json", JSON.stringify({ lease: { ttlMs: 4000, renewMs: 3000 } }));
  const error = await refusal(loadControllerConfig({ file: path, env: servers }));
  assert.match(error.message, /lease\.renewMs: .*more than half/);
});

test("loadControllerConfig refuses files that are absent, broken or no map", async () => {
  const absent = await refusal(loadControllerConfig({ file: join(dir, "none.yaml"), env: servers }));
  assert.equal(absent.code, "NOT_FOUND");
  assert.match(absent.message, /none\.yaml cannot be read/);
  const broken = await refusal(loadControllerConfig({ file: await file("b.yaml", "a: [1,\nb"), env: servers }));
  assert.match(broken.message, /b\.yaml:\d+:\d+: is not YAML/);
  const list = await refusal(loadControllerConfig({ file: await file("l.yaml", "- 1\n"), env: servers }));
  assert.match(list.message, /is not a map of fields/);
});

test("loadAgentConfig resolves registries, handlers and capacity", async () => {
  const path = await file(
    "agent.yaml",
    `node: node-a
labels: {zone: a}
registries:
  127.0.0.1:5000: {plainHttp: true, username: u, password: p}
runtimeHandlers:
  runc: {binary: /usr/sbin/runc}
capacity: {cpuMillis: 4000}
`,
  );
  const config = await loadAgentConfig({ file: path, env: servers });
  assert.deepEqual(config.registries["127.0.0.1:5000"], { plainHttp: true, username: "u", password: "p" });
  assert.equal(config.capacity.cpuMillis, 4000);
  assert.equal(config.snapshotter, "overlayfs");
  assert.equal(config.metricsListen, "0.0.0.0:1338");
  assert.equal(config.cni.bridge, "berth0");
});

test("loadAgentConfig refuses half of a credential and a relative root", async () => {
  const path = await file("half.yaml", "node: Node_A\nroot: data\nregistries:\n  r.example: {username: u}\n");
  const error = await refusal(loadAgentConfig({ file: path, env: servers }));
  assert.deepEqual(error.violations.map((v) => v.field).sort(), ["node", "registries.r.example", "root"]);
});

test("loadAgentConfig has watermarks by default, takes null for none, and refuses a low one that is not low", async () => {
  const plain = await loadAgentConfig({ file: await file("plain.yaml", "node: a\n"), env: servers });
  assert.deepEqual(plain.gc.watermarks, { highPercent: 85, lowPercent: 80 });
  assert.equal(plain.gc.mutationThreshold, 100);
  const none = await loadAgentConfig({ file: await file("gc0.yaml", "gc: {watermarks: null}\n"), env: servers });
  assert.equal(none.gc.watermarks, null);
  const high = await file(
    "gc1.yaml",
    "gc: {watermarks: {highPercent: 70}, cacheQuotas: {shop: -1}, pauseThreshold: 0.9}\n",
  );
  const error = await refusal(loadAgentConfig({ file: high, env: servers }));
  assert.deepEqual(error.violations.map((v) => v.field).sort(), [
    "gc.cacheQuotas.shop",
    "gc.pauseThreshold",
    "gc.watermarks",
  ]);
});

test("loadAgentConfig takes proxy snapshotters, and refuses our own names, other addresses and unknown capabilities", async () => {
  const path = await file(
    "proxies.yaml",
    "proxySnapshotters:\n  stargz: {address: /run/stargz.sock, capabilities: [rebase]}\n  soci: {address: 'unix:///run/s', snapshotter: x}\n",
  );
  const { proxySnapshotters, missingSnapshotQuota } = await loadAgentConfig({ file: path, env: servers });
  assert.deepEqual(proxySnapshotters, {
    stargz: { address: "/run/stargz.sock", capabilities: ["rebase"] },
    soci: { address: "unix:///run/s", snapshotter: "x", capabilities: [] },
  });
  assert.equal(missingSnapshotQuota, "refuse");
  const bad = await file(
    "bad-proxies.yaml",
    "missingSnapshotQuota: ignore\ndefaultDiskBytes: 4096\nproxySnapshotters:\n  zfs: {address: /run/z}\n  a: {address: 'tcp://h:1', capabilities: [speed]}\n",
  );
  const error = await refusal(loadAgentConfig({ file: bad, env: servers }));
  assert.deepEqual(error.violations.map((v) => v.field).sort(), [
    "defaultDiskBytes",
    "missingSnapshotQuota",
    "proxySnapshotters.a.address",
    "proxySnapshotters.a.capabilities.0",
    "proxySnapshotters.zfs",
  ]);
});

test("parseHostPort splits names and IPv6 literals", () => {
  assert.deepEqual(parseHostPort("127.0.0.1:7700"), { host: "127.0.0.1", port: 7700 });
  assert.deepEqual(parseHostPort("[::1]:0"), { host: "::1", port: 0 });
});
