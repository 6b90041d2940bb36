import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { hasCode } from "@berth/base";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { insertEvents, listEvents } from "./events.ts";
import { currentPosition, parseCursor, formatCursor } from "./feed/position.ts";
import { readChanges } from "./feed/read.ts";
import { recordChanges } from "./feed/record.ts";
import { getStoreMeta } from "./meta.ts";
import { openStore, type Store } from "./open.ts";
import { makePartitions, partitionsOf, retirePartition } from "./partitions.ts";
import { closePartition } from "./testing/partitions.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";

let server: TestPostgres;
before(async () => {
  server = await startTestPostgres();
});
after(() => server[Symbol.asyncDispose]());

const MIGRATIONS = join(import.meta.dirname, "../migrations");
const event = (name: string) => ({ topic: "/nodes/test", kind: "Node", name }) as const;
const write = (store: Store, name: string): Promise<unknown> =>
  store.transaction(async (tx) => {
    await recordChanges(tx, [{ kind: "Node", namespace: "", name, uid: name, op: "ADDED", object: { name } }]);
    await insertEvents(tx, [event(name)]);
  });
const close = (store: Store) => store.transaction((tx) => closePartition(tx, "events"));
const names = async (store: Store) => (await listEvents(store.db, { pageSize: 1_000 })).items.map(({ name }) => name);

void test("a store of before partitions is migrated with its rows in place and a writer on", async () => {
  const url = await server.database();
  const client = postgres(url, { max: 3, onnotice: () => {} });
  await migrateUntil(client, "partitions");
  await client`insert into store_meta (store_epoch) values (gen_random_uuid())`;
  await client`
    insert into events (time, topic, kind, name, stored_at)
    select now(), '/old', 'Node', 'n' || n, now() - n * interval '1 minute' from generate_series(1, 50000) n`;
  await client`insert into changes (kind, namespace, name, uid, op, object) values ('Node', '', 'old', 'u', 'ADDED', '{}')`;
  // It knows nothing of partitions, and keeps on writing through the migration.
  let written = 0;
  let migrated = false;
  const writing = (async () => {
    while (!migrated || written === 0) {
      await client`insert into events (time, topic, kind, name) values (now(), '/live', 'Node', 'x')`;
      written += 1;
    }
  })();
  await using store = await openStore({ url });
  migrated = true;
  await writing;
  const [{ old, live }] = await client<[{ old: number; live: number }]>`
    select count(*) filter (where topic = '/old')::int as old, count(*) filter (where topic = '/live')::int as live from events`;
  assert.deepEqual([old, live], [50_000, written]);
  assert.deepEqual((await partitionsOf(store.db, "events")).map(({ name }) => name)[0], "events_before");
  await write(store, "new");
  const feed = await readChanges(store.db, { xid: 0n, id: 0 }, 10);
  assert.deepEqual(feed.items.map(({ name }) => name), ["old", "new"]); // prettier-ignore
  const [plan] = await client`select last_value > 50000 as goes_on from events_id_seq`;
  assert.equal(plan!["goes_on"], true, "ids go on");
  await client.end();
});

void test("makePartitions makes them ahead, without a gap, also after a long absence, and while writers hold the table", async () => {
  await using store = await server.open();
  const hour = 3_600_000;
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const { promise: holds, resolve: held } = Promise.withResolvers<void>();
  const writer = store.transaction(async (tx) => {
    await insertEvents(tx, [event("held")]);
    held();
    await mayEnd;
  });
  await holds;
  const [last] = (await partitionsOf(store.db, "events")).slice(-1);
  const aheadMs = last!.to.getTime() - Date.now() + 3 * hour;
  const made = await store.transaction((tx) => makePartitions(tx, "events", hour, aheadMs));
  end();
  await writer;
  assert.ok(made === 3 || made === 4, `${made}`);
  const all = await partitionsOf(store.db, "events");
  for (const [index, { from }] of all.entries()) if (index > 0) assert.deepEqual(from, all[index - 1]!.to);
  assert.equal(await store.transaction((tx) => makePartitions(tx, "events", hour, hour)), 0);
  // Nobody was there: what is missing between then and now is one partition.
  await store.db.execute(sql`truncate changes`);
  for (const { name } of await partitionsOf(store.db, "changes")) await store.db.execute(sql.raw(`drop table ${name}`));
  await store.transaction((tx) => makePartitions(tx, "changes", hour, hour));
  assert.equal((await partitionsOf(store.db, "changes")).length, 2);
  await write(store, "again");
});

void test("retirePartition drops what is too old and nothing else; cursors below are refused, readers go on", async () => {
  await using store = await server.open();
  const { storeEpoch } = await getStoreMeta(store.db);
  const start = formatCursor(storeEpoch, await currentPosition(store.db));
  await write(store, "one");
  await write(store, "two");
  await close(store);
  await write(store, "three");
  assert.equal(await retirePartition(store, "events", 60_000), undefined, "it is not too old");
  const gone = await retirePartition(store, "events", 0);
  assert.equal(gone?.partition, "events_before");
  assert.equal(await retirePartition(store, "events", 0), undefined, "what is written to stays");
  assert.deepEqual(await names(store), ["three"]);
  await assert.rejects(
    parseCursor(store.db, "events", start),
    (error) => hasCode(error, "OUT_OF_RANGE") && error.reason === "CURSOR_EXPIRED",
  );
  await parseCursor(store.db, "changes", start);
  const [row] = await store.db.execute<{ exists: boolean }>(
    sql`select to_regclass('events_before') is not null as exists`,
  );
  assert.equal(row!.exists, false);
});

void test("retirePartition finishes what somebody who died has begun", async () => {
  await using store = await server.open();
  await write(store, "one");
  await close(store);
  await write(store, "two");
  await close(store);
  await write(store, "three");
  const [first, second] = await partitionsOf(store.db, "events");
  // Died between the two phases of a detach: a reader holds up the second, and the statement is given up.
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const { promise: reads, resolve: reading } = Promise.withResolvers<void>();
  const reader = store.transaction(async (tx) => {
    await tx.execute(sql`select count(*) from events`);
    reading();
    await mayEnd;
  });
  await reads;
  const client = postgres(store.url, { max: 1, connection: { statement_timeout: 300 } });
  await assert.rejects(client.unsafe(`alter table events detach partition ${first!.name} concurrently`));
  await client.end();
  end();
  await reader;
  assert.deepEqual((await partitionsOf(store.db, "events"))[0]!.leaving, true);
  assert.equal((await retirePartition(store, "events", 0))?.partition, first!.name);
  // Died between detaching and dropping.
  await store.db.execute(sql.raw(`alter table events detach partition ${second!.name} concurrently`));
  await retirePartition(store, "events", 0);
  const tables = await store.db.execute<{ name: string }>(sql`
    select relname as name from pg_class where relkind = 'r' and relname in (${first!.name}, ${second!.name})`);
  assert.deepEqual([...tables], []);
  assert.deepEqual(await names(store), ["three"]);
});

/** Applies the committed migrations before the named one. */
async function migrateUntil(client: postgres.Sql, name: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "berth-migrations-"));
  try {
    cpSync(MIGRATIONS, folder, { recursive: true });
    const path = join(folder, "meta/_journal.json");
    const journal = JSON.parse(readFileSync(path, "utf8")) as { entries: { tag: string }[] };
    const until = journal.entries.findIndex(({ tag }) => tag.endsWith(`_${name}`));
    assert.ok(until > 0);
    writeFileSync(path, JSON.stringify({ ...journal, entries: journal.entries.slice(0, until) }));
    await migrate(drizzle(client), { migrationsFolder: folder });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
