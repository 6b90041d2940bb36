import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "@nats-io/transport-node";
import { Redis } from "ioredis";
import { isAlive } from "./process.ts";
import { startNats } from "./nats.ts";
import { startPostgres } from "./postgres.ts";
import { startRedis } from "./redis.ts";
import { startRegistry } from "./registry.ts";
import { scratchDir } from "./scratch.ts";

test("startPostgres keeps what was committed before a kill, at the same address", async () => {
  using scratch = scratchDir();
  await using server = await startPostgres({ dir: scratch.dir });
  const { port } = server;
  await server.query("create table kept (n int)");
  await server.query("insert into kept values (7)");
  await server.kill();
  assert.equal(server.running, false);
  await server.start();
  assert.equal(server.port, port);
  assert.deepEqual([...(await server.query("select n from kept"))], [{ n: 7 }]);
  await server.restart();
  assert.equal((await server.query("show fsync"))[0]?.["fsync"], "on");
});

test("startPostgres serves from a directory that its user cannot reach, and keeps everything in it", async () => {
  using scratch = scratchDir();
  const closed = join(scratch.dir, "closed");
  mkdirSync(closed, { mode: 0o700 });
  let identity;
  {
    await using server = await startPostgres({ dir: join(closed, "pg") });
    const url = await server.createDatabase("second");
    assert.match(url, /\/second$/);
    identity = server.identity;
    assert.ok(identity !== undefined && isAlive(identity));
    // Neither in /dev/shm nor in /run, where it would be by default.
    assert.deepEqual(
      [...(await server.query("show dynamic_shared_memory_type"))],
      [{ dynamic_shared_memory_type: "mmap" }],
    );
    assert.deepEqual([...(await server.query("show unix_socket_directories"))], [{ unix_socket_directories: "" }]);
  }
  assert.equal(isAlive(identity), false);
});

test("startPostgres opened twice on one directory has the same data and password", async () => {
  using scratch = scratchDir();
  let url: string;
  {
    await using first = await startPostgres({ dir: scratch.dir });
    await first.query("create table here ()");
    url = first.url.replace(/:\d+\//, "/");
  }
  await using second = await startPostgres({ dir: scratch.dir });
  assert.equal(second.url.replace(/:\d+\//, "/"), url);
  assert.equal((await second.query("select 1 from pg_tables where tablename = 'here'")).length, 1);
});

test("startRedis keeps its data over a restart", async () => {
  using scratch = scratchDir();
  await using server = await startRedis({ dir: scratch.dir });
  const client = new Redis(server.url, { lazyConnect: true, maxRetriesPerRequest: 20 });
  client.on("error", () => {});
  try {
    await client.set("k", "v");
    await server.restart();
    assert.equal(await client.get("k"), "v");
  } finally {
    client.disconnect();
  }
});

test("startRedis lets a node use its own queue alone", async () => {
  using scratch = scratchDir();
  await using server = await startRedis({ dir: scratch.dir, nodes: ["node-1", "node-2"] });
  const node = new Redis(server.nodeUrl("node-1"), { lazyConnect: true });
  try {
    assert.equal(await node.lpush("bull:{node-node-1}:wait", "job"), 1);
    assert.match(await node.info("server"), /redis_version/);
    assert.equal(await node.eval("return redis.call('llen', KEYS[1])", 1, "bull:{node-node-1}:wait"), 1);
    const foreign = "bull:{node-node-2}:wait";
    await assert.rejects(() => node.lrange(foreign, 0, -1), /NOPERM/);
    await assert.rejects(() => node.lpush(foreign, "x"), /NOPERM/);
    await assert.rejects(() => node.eval("return redis.call('llen', KEYS[1])", 1, foreign), /NOPERM/);
    await assert.rejects(
      () => node.eval("return redis.call('llen', 'bull:{node-node-2}:wait')", 0),
      /can't access at least one of the keys/,
    );
    await assert.rejects(() => node.keys("*"), /NOPERM/);
    await assert.rejects(() => node.flushall(), /NOPERM/);
    await assert.rejects(() => node.call("CONFIG", "GET", "*"), /NOPERM/);
    await assert.rejects(() => node.subscribe("news"), /NOPERM/);
  } finally {
    node.disconnect();
  }
});

test("startRedis refuses who has no password", async () => {
  using scratch = scratchDir();
  await using server = await startRedis({ dir: scratch.dir });
  const stranger = new Redis({ host: server.host, port: server.port, lazyConnect: true });
  stranger.on("error", () => {});
  try {
    await assert.rejects(() => stranger.get("k"), /NOAUTH/);
  } finally {
    stranger.disconnect();
  }
});

test("startNats keeps its streams over a restart and loses them by wipe", async () => {
  using scratch = scratchDir();
  await using server = await startNats({ dir: scratch.dir });
  const ask = async (subject: string, body: object): Promise<{ error?: unknown; streams?: string[] | null }> => {
    const { username: user, password: pass, host: servers } = new URL(server.url);
    const nc = await connect({ servers, user, pass });
    try {
      return (await nc.request(subject, JSON.stringify(body), { timeout: 5_000 })).json();
    } finally {
      await nc.close();
    }
  };
  const created = await ask("$JS.API.STREAM.CREATE.EV", { name: "EV", subjects: ["ev.>"], storage: "file" });
  assert.equal(created.error, undefined);
  await server.restart();
  assert.deepEqual((await ask("$JS.API.STREAM.NAMES", {})).streams, ["EV"]);
  await server.wipe();
  assert.deepEqual((await ask("$JS.API.STREAM.NAMES", {})).streams, null);
});

test("startRegistry asks for the password it was given and keeps its blobs over a restart", async () => {
  using scratch = scratchDir();
  await using server = await startRegistry({ dir: scratch.dir, username: "berth" });
  assert.equal((await fetch(`${server.api}/v2/`)).status, 401);
  const { username, password } = server.credentials ?? assert.fail("no credentials");
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  assert.equal((await fetch(`${server.api}/v2/`, { headers: { authorization } })).status, 200);
  await server.restart();
  assert.equal((await fetch(`${server.api}/v2/`, { headers: { authorization } })).status, 200);
});
