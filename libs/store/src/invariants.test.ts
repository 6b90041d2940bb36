/** Each invariant that drills and chaos judge by, kept and broken, on a real Postgres. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { insertDrill, lockDrill, lockDrillUnderWay, writeDrill, type NewDrill } from "./drills.ts";
import { insertEvents, type NewEvent } from "./events.ts";
import { recordChanges } from "./feed/record.ts";
import { changedEnds, executionStarts, journalGaps, repeatedStarts, storeMark, type StoreMark } from "./invariants.ts";
import { openStore, type Store } from "./open.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";

let server: TestPostgres;
before(async () => {
  server = await startTestPostgres();
});
after(() => server[Symbol.asyncDispose]());

const openNew = async (): Promise<Store> => await openStore({ url: await server.database() });

const entry = (node: string, journalSeq: number, more: Partial<NewEvent> = {}): NewEvent => ({ topic: "/tasks/create", kind: "Task", name: "web-a", uid: "a", node, journalEpoch: "e", journalSeq, ...more }); // prettier-ignore
const write = (store: Store, ...entries: NewEvent[]): Promise<unknown> => store.transaction((tx) => insertEvents(tx, entries)); // prettier-ignore

void test("journalGaps finds entries that are missing, first or within, and that are there twice", async () => {
  await using store = await openNew();
  await write(store, entry("whole", 1), entry("whole", 2), entry("hole", 1), entry("hole", 3), entry("late", 2));
  await write(store, entry("twice", 1), entry("twice", 1), entry("other", 1, { journalEpoch: "f" }), entry("other", 1));
  const wrong = async (scope?: Parameters<typeof journalGaps>[1]) => (await journalGaps(store.db, scope)).toSorted();
  const [hole, late, twice] = ["hole: 2 entries from 1 to 3", "late: 1 entries from 2 to 2", "twice: 2 entries from 1 to 1"].map((text) => `journal of ${text}`); // prettier-ignore
  assert.deepEqual(await wrong(), [hole, late, twice]);
  assert.deepEqual(await wrong({ nodes: ["whole", "late"] }), [late]);
  // What was broken before is not this drill's.
  const since = await storeMark(store.db);
  await write(store, entry("hole", 4), entry("whole", 4));
  assert.deepEqual(await wrong({ since }), ["journal of whole: 1 entries from 4 to 4"]);
});

void test("storeMark: what was begun before it and stored after it came after it", async () => {
  await using store = await openNew();
  const { promise: marked, resolve: mark } = Promise.withResolvers<StoreMark>();
  await store.transaction(async (tx) => {
    await insertEvents(tx, [entry("late", 3)]);
    mark(await store.snapshot(storeMark));
  });
  const since = await marked;
  assert.deepEqual(await journalGaps(store.db, { since }), ["journal of late: 1 entries from 3 to 3"]);
  assert.deepEqual(await journalGaps(store.db, { since: await storeMark(store.db) }), []);
});

void test("repeatedStarts finds an execution that began twice, and no other attempt of the same task", async () => {
  await using store = await openNew();
  const start = (seq: number, attempt: string): NewEvent => entry("n", seq, { topic: "/tasks/start", attributes: { generation: "1", attempt } }); // prettier-ignore
  await write(store, start(1, "1"), start(2, "2"));
  assert.deepEqual(repeatedStarts(await executionStarts(store.db)), []);
  await write(store, start(3, "2"));
  assert.deepEqual(repeatedStarts(await executionStarts(store.db)), ["web-a 1.2 began 2 times, by the journals"]);
  const none = { tasks: [{ namespace: "demo", name: "web-b", uid: "b" }] };
  assert.deepEqual(await executionStarts(store.db, none), []);
});

void test("changedEnds finds an end that became another one or got another code, through all that was between", async () => {
  await using store = await openNew();
  const change = (name: string, attempt: number, status: object) =>
    store.transaction((tx) => {
      const object = { metadata: { generation: "1" }, status: { attempt, ...status } };
      return recordChanges(tx, [{ kind: "Task", namespace: "demo", name, uid: name, op: "MODIFIED", object }]);
    });
  await change("well", 1, { phase: "Running" });
  await change("well", 1, { phase: "Failed", exitCode: 7 });
  await change("well", 1, { phase: "Failed", exitCode: 7, health: "healthy" });
  await change("well", 2, { phase: "Running" });
  assert.deepEqual(await changedEnds(store.db), []);
  for (const phase of ["Failed", "Running", "Failed"]) await change("phase", 1, { phase });
  for (const exitCode of [7, 9]) await change("code", 1, { phase: "Failed", exitCode });
  assert.deepEqual(await changedEnds(store.db), ["demo/code was Failed (7) and is Failed (9)", "demo/phase was Failed and is Running"]); // prettier-ignore
  const scope = { tasks: [{ namespace: "demo", name: "code", uid: "" }] };
  assert.equal((await changedEnds(store.db, scope)).length, 1);
  assert.deepEqual(await changedEnds(store.db, { ...scope, since: await storeMark(store.db) }), []);
});

void test("insertDrill keeps one drill under way; one that has ended is not written again", async () => {
  await using store = await openNew();
  const drill = (name: string): NewDrill => ({ name, kind: "pause", selector: "a=b", nodes: ["n"], durationMs: 5_000, before: { tasks: [], generations: {}, leaseMs: 1, snapshot: "1:1:" }, createdAt: new Date() }); // prettier-ignore
  await store.transaction((tx) => insertDrill(tx, drill("pause-1")));
  await assert.rejects(
    store.transaction((tx) => insertDrill(tx, drill("pause-2"))),
    /drill pause-1 is under way: wait for its end: berth drill show pause-1 -w/,
  );
  await store.transaction(async (tx) => {
    const row = (await lockDrillUnderWay(tx))!;
    await writeDrill(tx, row, { steps: [], verdict: "Passed" });
  });
  assert.equal(await store.transaction((tx) => lockDrill(tx, "pause-1")), undefined);
  assert.equal((await store.transaction((tx) => insertDrill(tx, drill("pause-2")))).name, "pause-2");
});
