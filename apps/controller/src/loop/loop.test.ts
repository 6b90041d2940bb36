import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { silentLogger } from "@berth/base";
import { openStore, reconcileLock, type Store } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { startKeyedLoop } from "./keyed-loop.ts";
import { startLoop } from "./loop.ts";
import { partitionOf, startPartitions, type Partitions } from "./partitions.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

void test("startLoop goes on after a failure, and hears a ring during a round", async () => {
  let rounds = 0;
  await using loop = startLoop(
    { logger: silentLogger },
    {
      name: "test",
      round: () => {
        rounds += 1;
        if (rounds === 1) return Promise.reject(new Error("once"));
        if (rounds === 2) loop.ring();
        return Promise.resolve(60_000);
      },
    },
  );
  await eventually("three rounds", () => rounds === 3);
});

void test("startKeyedLoop works on a key once at a time, and again when it was added meanwhile", async () => {
  const gates: PromiseWithResolvers<void>[] = [];
  let running = 0;
  let most = 0;
  await using loop = startKeyedLoop(
    { logger: silentLogger },
    {
      name: "test",
      concurrency: 4,
      async process() {
        running += 1;
        most = Math.max(most, running);
        const gate = Promise.withResolvers<void>();
        gates.push(gate);
        await gate.promise;
        running -= 1;
        return undefined;
      },
    },
  );
  loop.add("a");
  await eventually("it is worked on", () => gates.length === 1);
  loop.add("a");
  loop.add("a");
  gates[0]!.resolve();
  await eventually("it is worked on again", () => gates.length === 2);
  gates[1]!.resolve();
  await eventually("nothing is left", () => loop.busy === 0);
  assert.deepEqual([gates.length, most], [2, 1]);
});

void test("startKeyedLoop backs off a failing key and no other", async () => {
  const done: string[] = [];
  let failures = 0;
  await using loop = startKeyedLoop(
    { logger: silentLogger },
    {
      name: "test",
      concurrency: 1,
      process(key) {
        if (key === "bad" && failures < 2) {
          failures += 1;
          return Promise.reject(new Error("not yet"));
        }
        done.push(key);
        return Promise.resolve(undefined);
      },
    },
  );
  for (const key of ["bad", "a", "b"]) loop.add(key);
  await eventually("all are done", () => done.length === 3);
  assert.deepEqual(done, ["a", "b", "bad"]);
});

async function controller(store: Store, held: Map<string, Set<number>>, name: string): Promise<Partitions> {
  const mine = new Set<number>();
  held.set(name, mine);
  return await startPartitions(
    { store, logger: silentLogger },
    {
      name,
      count: 4,
      lockOf: reconcileLock,
      async hold(partition, signal) {
        for (const [other, theirs] of held) assert.ok(other === name || !theirs.has(partition), "held by two");
        mine.add(partition);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        mine.delete(partition);
      },
    },
  );
}

void test("startPartitions divides the partitions fairly, and takes over those of one that ended", async () => {
  const url = await databases.create();
  const held = new Map<string, Set<number>>();
  await using storeA = await openStore({ url });
  await using a = await controller(storeA, held, "a");
  assert.equal(a.held.size, 4);
  const storeB = await openStore({ url });
  const b = await controller(storeB, held, "b");
  await eventually("two each", () => a.held.size === 2 && b.held.size === 2);
  await b[Symbol.asyncDispose]();
  await storeB[Symbol.asyncDispose]();
  await eventually("all again", () => a.held.size === 4);
  assert.deepEqual(held.get("a"), new Set([0, 1, 2, 3]));
});

void test("partitionOf is the same for ever", () => {
  assert.deepEqual(["shop", "demo", "", "node-1"].map((name) => partitionOf(name, 8)), [1, 6, 5, 3]); // prettier-ignore
});
