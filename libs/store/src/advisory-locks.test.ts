import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { silentLogger } from "@berth/base";
import { eventually, scratchDir, startPostgres, type PostgresServer, type Scratch } from "@berth/testkit/servers";
import { sql } from "drizzle-orm";
import { openAdvisoryLocks } from "./advisory-locks.ts";
import { MEMBERS_LOCK, reconcileLock } from "./lock-keys.ts";
import { openStore } from "./open.ts";

let scratch: Scratch;
let postgres: PostgresServer;
before(async () => {
  scratch = scratchDir("berth-locks");
  postgres = await startPostgres({ dir: scratch.dir });
});
after(async () => {
  await postgres?.[Symbol.asyncDispose]();
  scratch?.[Symbol.dispose]();
});

/** Between a client and Postgres; `hang` keeps every connection of now open and silent. */
async function startProxy(to: { host: string; port: number }): Promise<{ port: number; hang(): void; close(): void }> {
  const pairs: [Socket, Socket][] = [];
  const server: Server = createServer((near) => {
    const far = connect(to.port, to.host);
    for (const socket of [near, far]) socket.on("error", () => {});
    near.pipe(far).pipe(near);
    pairs.push([near, far]);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    port,
    hang() {
      for (const [near, far] of pairs) {
        near.unpipe(far);
        far.unpipe(near);
      }
    },
    close() {
      server.close();
      for (const socket of pairs.flat()) socket.destroy();
    },
  };
}

void test("openAdvisoryLocks leaves a connection that hangs: its locks are lost, and what waits is asked anew", async () => {
  const proxy = await startProxy(postgres);
  const url = new URL(postgres.url);
  url.port = String(proxy.port);
  await using locks = openAdvisoryLocks(url.href, silentLogger, "", 100);
  const held = await locks.tryAcquire([1, 1]);
  assert.ok(held !== undefined);
  proxy.hang();
  // The server does not know that nobody listens there, so the lock itself is free only when that connection is gone.
  const waiting = locks.members([2, 0]).catch(() => undefined);
  await eventually("the lock is given up", () => held.signal.aborted);
  await waiting;
  const other = await eventually("another lock", () => locks.tryAcquire([1, 2]).catch(() => undefined));
  assert.ok(!other.signal.aborted);
  assert.equal(await locks.members([2, 0]), 1);
  proxy.close();
});

void test("advisory locks: one holder, given back, lost with the connection, members counted", async () => {
  const url = await postgres.createDatabase("locks");
  await using store = await openStore({ url });
  const other = openAdvisoryLocks(url, silentLogger);
  const key = reconcileLock(3);
  const held = await store.locks.tryAcquire(key);
  assert.ok(held !== undefined);
  assert.equal(await store.locks.tryAcquire(key), undefined);
  assert.equal(await other.tryAcquire(key), undefined);
  await held[Symbol.asyncDispose]();
  const theirs = await other.tryAcquire(key);
  assert.ok(theirs !== undefined);
  assert.deepEqual([await other.members(MEMBERS_LOCK), await store.locks.members(MEMBERS_LOCK)], [1, 2]);
  const lost = new Promise((resolve) => theirs.signal.addEventListener("abort", resolve));
  await store.db.execute(sql`
    select pg_terminate_backend(pid) from pg_locks
    where locktype = 'advisory' and classid::bigint = ${key[0]} and objid::bigint = ${key[1]}`);
  await lost;
  assert.ok((await store.locks.tryAcquire(key)) !== undefined);
  assert.equal(await store.locks.members(MEMBERS_LOCK), 1);
  await other[Symbol.asyncDispose]();
});
