import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { hasCode, seededRandom, silentLogger, type Random } from "@berth/base";
import { sql } from "drizzle-orm";
import type { Store } from "../open.ts";
import { startTestPostgres, type TestPostgres } from "../testing/test-store.ts";
import { startChangeFeed } from "./follow.ts";
import { currentPosition, formatCursor, parseCursor, type Position } from "./position.ts";
import { retirePartition } from "../partitions.ts";
import { closePartition } from "../testing/partitions.ts";
import { readChanges, type Change } from "./read.ts";
import { notify, recordChanges } from "./record.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

async function write(store: Store, name: string, hold: () => Promise<void> = async () => {}): Promise<void> {
  await store.transaction(async (tx) => {
    await recordChanges(tx, [
      { kind: "Task", namespace: "shop", name, uid: name, op: "ADDED", object: { name }, owner: "w" },
    ]);
    await hold();
  });
}

/** Reads on until `count` rows have come. */
async function collect(items: AsyncIterable<readonly Change[]>, count: number): Promise<Change[]> {
  const seen: Change[] = [];
  for await (const batch of items) {
    seen.push(...batch);
    if (seen.length >= count) break;
  }
  return seen;
}

/** Drops all that was written so far. */
async function retireAll(store: Store): Promise<void> {
  await store.transaction((tx) => closePartition(tx, "changes"));
  while ((await retirePartition(store, "changes", 0)) !== undefined);
}

const turns = async (random: Random): Promise<void> => {
  for (let left = Math.floor(random() * 20); left > 0; left -= 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
};

void test("readChanges hides what a still open, older transaction may come before", async () => {
  await using store = await postgres.open();
  const start = await currentPosition(store.db);
  const { promise: mayCommit, resolve: commit } = Promise.withResolvers<void>();
  const { promise: written, resolve: hasWritten } = Promise.withResolvers<void>();
  const late = write(store, "late", async () => {
    hasWritten();
    await mayCommit;
  });
  await written;
  await write(store, "early");
  const hidden = await readChanges(store.db, start, 10);
  assert.deepEqual(hidden.items, []);
  assert.equal(hidden.pending, true);
  commit();
  await late;
  const shown = await readChanges(store.db, start, 10);
  assert.deepEqual(
    shown.items.map((change) => change.name),
    ["late", "early"],
  );
});

void test("startChangeFeed neither skips nor doubles with writers that commit late", async () => {
  await using store = await postgres.open();
  const seed = 20_260_101;
  const random = seededRandom(seed);
  await using feed = await startChangeFeed({ store, logger: silentLogger }, { pollMs: 200, ringSize: 20 });
  const from = await currentPosition(store.db);
  const writers = 6;
  const each = 40;
  const followers = [1, 2, 3].map(() => collect(feed.follow(from, AbortSignal.timeout(20_000)), writers * each));
  await Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      for (let n = 0; n < each; n += 1) {
        await turns(random);
        await write(store, `t-${writer}-${n}`, () => turns(random));
      }
    }),
  );
  const expected = Array.from({ length: writers * each }, (_, i) => `t-${Math.floor(i / each)}-${i % each}`).sort();
  const orders = await Promise.all(followers);
  for (const seen of orders) {
    assert.deepEqual(seen.map((change) => change.name).sort(), expected, `seed ${seed}`);
    assert.deepEqual(seen, orders[0], `all followers see one order, seed ${seed}`);
  }
});

void test("follow goes on from a list's position and sees what the list did not", async () => {
  await using store = await postgres.open();
  await using feed = await startChangeFeed({ store, logger: silentLogger }, { pollMs: 100 });
  await write(store, "before");
  const position = await store.snapshot((tx) => currentPosition(tx));
  const following = collect(feed.follow(position, AbortSignal.timeout(20_000)), 1);
  await write(store, "after");
  assert.deepEqual(
    (await following).map((change) => change.name),
    ["after"],
  );
});

void test("parseCursor refuses what was pruned, what is foreign and what is no cursor", async () => {
  await using store = await postgres.open();
  const [meta] = await store.db.execute<{ epoch: string }>(sql`select store_epoch::text as epoch from store_meta`);
  const start = await currentPosition(store.db);
  const cursor = formatCursor(meta!.epoch, start);
  assert.deepEqual(await parseCursor(store.db, "changes", cursor), start);
  await write(store, "one");
  await write(store, "two");
  await retireAll(store);
  await assert.rejects(parseCursor(store.db, "changes", cursor), (error) => hasCode(error, "OUT_OF_RANGE"));
  assert.deepEqual(await parseCursor(store.db, "events", cursor), start);
  const foreign = `00000000${cursor.slice(8)}`;
  await assert.rejects(parseCursor(store.db, "changes", foreign), (error) => hasCode(error, "OUT_OF_RANGE"));
  await assert.rejects(parseCursor(store.db, "changes", "what"), (error) => hasCode(error, "INVALID_ARGUMENT"));
});

void test("follow throws OUT_OF_RANGE rather than skip what was pruned", async () => {
  await using store = await postgres.open();
  const start = await currentPosition(store.db);
  await write(store, "one");
  await write(store, "two");
  await retireAll(store);
  await using feed = await startChangeFeed({ store, logger: silentLogger });
  await assert.rejects(collect(feed.follow(start, AbortSignal.timeout(20_000)), 1), (error) =>
    hasCode(error, "OUT_OF_RANGE"),
  );
});

void test("a feed that nobody follows reads nothing, and whoever comes next misses nothing", async () => {
  await using store = await postgres.open();
  const from = await currentPosition(store.db);
  let reads = 0;
  const execute: typeof store.db.execute = (query) => {
    reads += 1;
    return store.db.execute(query);
  };
  const db = new Proxy(store.db, { get: (target, key) => (key === "execute" ? execute : Reflect.get(target, key)) });
  await using feed = await startChangeFeed(
    { store: { ...store, db }, logger: silentLogger },
    { pollMs: 10, ringSize: 4 },
  );
  const atStart = reads;
  const names = async (after: Position, count: number): Promise<Change[]> =>
    await collect(feed.follow(after, AbortSignal.timeout(20_000)), count);
  for (const name of ["one", "two"]) await write(store, name);
  // Its bell rings with each of them: had it looked, it would have asked by the time that another listener has heard of both.
  const heard = Promise.withResolvers<void>();
  await using _listening = await store.listen("heard", (payload) => {
    if (payload === "all") heard.resolve();
  });
  await notify(store.db, "heard", "all");
  await heard.promise;
  assert.equal(reads, atStart, "nobody follows");
  const first = await names(from, 2);
  assert.deepEqual(first.map(({ name }) => name), ["one", "two"]); // prettier-ignore
  for (let round = 0; round < 12; round += 1) {
    const last = (await names(from, 2 + round)).at(-1)!;
    await write(store, `gap ${round}`);
    const [next] = await names(last.position, 1);
    assert.equal(next!.name, `gap ${round}`);
  }
});
