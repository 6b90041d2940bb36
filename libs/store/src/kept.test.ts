import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { seededRandom, uuidv7 } from "@berth/base";
import { FleetNodes } from "./fleet-nodes.ts";
import { KeptTasks } from "./kept-tasks.ts";
import { insertNewNodes, markSilent } from "./leases.ts";
import { lockNode, removeNode, updateNode } from "./nodes.ts";
import type { Store } from "./open.ts";
import { tasksOfWorkload } from "./reconcile.ts";
import { insertTasks, removeTasks, updateTasks, type NewTask, type TaskRow } from "./tasks.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const newTask = (workloadUid: string, slot: number): NewTask => ({
  uid: uuidv7(),
  namespace: "shop",
  name: `web-${uuidv7()}`,
  labels: {},
  workload: "web",
  workloadUid,
  workloadGeneration: 1,
  slot,
  pinnedNode: null,
  container: { image: "busybox" },
  cpuMillis: 500,
  memoryBytes: 0,
  hostPorts: [],
  beginsAgain: "always",
  fence: false,
});

const addTasks = (store: Store, workloadUid: string, slots: readonly number[]): Promise<TaskRow[]> =>
  store.transaction((tx) =>
    insertTasks(
      tx,
      slots.map((slot) => newTask(workloadUid, slot)),
    ),
  );

void test("KeptTasks gives what reading everything gives, whatever has happened since it was asked last", async () => {
  await using store = await postgres.open();
  const seed = 20_261_129;
  const random = seededRandom(seed);
  const kept = new KeptTasks();
  const uid = uuidv7();
  await addTasks(store, uid, [0, 1, 2, 3, 4, 5, 6, 7]);
  const versions = new Map<string, TaskRow>();
  let slot = 8;
  for (let round = 0; round < 40; round += 1) {
    const rows = await tasksOfWorkload(store.db, uid);
    const chosen = rows.filter(() => random() < 0.3);
    const moves = [
      () => Promise.resolve(),
      () => store.transaction((tx) => updateTasks(tx, chosen.map((each) => ({ before: each, patch: { message: `round ${round}` } })))), // prettier-ignore
      () => store.transaction((tx) => removeTasks(tx, chosen.slice(0, 2))),
      () => addTasks(store, uid, [(slot += 1), (slot += 1)]),
    ];
    await moves[Math.floor(random() * moves.length)]!();
    const expected = await tasksOfWorkload(store.db, uid);
    const given = await kept.ofWorkload(store.db, uid);
    assert.deepEqual(given, expected, `round ${round} of seed ${seed}`);
    const again = await kept.ofWorkload(store.db, uid);
    for (const row of given) {
      const version = versions.get(row.uid);
      if (version?.resourceVersion === row.resourceVersion)
        assert.equal(row, version, "what has not moved is not read");
      versions.set(row.uid, row);
    }
    assert.equal(again, given, "nothing has moved: the very same");
  }
});

void test("KeptTasks gives one moment's tasks while others move them", async () => {
  await using store = await postgres.open();
  const kept = new KeptTasks();
  const uid = uuidv7();
  let rows = await addTasks(store, uid, [0, 1, 2, 3, 4, 5]);
  let done = false;
  // All of them say the same at any moment, in groups that a look may find half changed.
  const moving = (async () => {
    for (let round = 0; round < 60; round += 1) {
      const patch = { message: `round ${round}` };
      rows = await store.transaction((tx) => updateTasks(tx, rows.map((each) => ({ before: each, patch })))); // prettier-ignore
    }
    done = true;
  })();
  while (!done) {
    const seen = new Set((await kept.ofWorkload(store.db, uid)).map(({ message }) => message));
    assert.equal(seen.size, 1);
  }
  await moving;
  assert.equal((await kept.ofWorkload(store.db, uid))[0]!.message, "round 59");
});

void test("KeptTasks keeps no more rows than it may, and reads the others whole", async () => {
  await using store = await postgres.open();
  const kept = new KeptTasks(5);
  const [small, other, large] = [uuidv7(), uuidv7(), uuidv7()];
  await addTasks(store, small, [0, 1, 2]);
  await addTasks(store, other, [0, 1, 2]);
  await addTasks(store, large, [0, 1, 2, 3, 4, 5]);
  const first = await kept.ofWorkload(store.db, small);
  assert.equal(await kept.ofWorkload(store.db, small), first, "nothing has changed: the very same");
  await kept.ofWorkload(store.db, other);
  assert.notEqual(await kept.ofWorkload(store.db, small), first, "the other one has taken its place");
  const whole = await kept.ofWorkload(store.db, large);
  assert.equal(whole.length, 6);
  assert.notEqual(await kept.ofWorkload(store.db, large), whole);
});

void test("FleetNodes gives the same rows until a node changes, falls silent, comes or goes", async () => {
  await using store = await postgres.open();
  const fleet = new FleetNodes();
  const add = (name: string) => store.transaction((tx) => insertNewNodes(tx, [{ name, shard: 0 } as never]));
  const change = (name: string, what: (row: NonNullable<Awaited<ReturnType<typeof lockNode>>>, tx: Store["db"]) => Promise<unknown>) =>
    store.transaction(async (tx) => await what((await lockNode(tx, name))!, tx)); // prettier-ignore
  await add("a");
  let rows = await fleet.read(store.db);
  const differs = async (why: string, names: readonly string[]): Promise<void> => {
    const next = await fleet.read(store.db);
    assert.notEqual(next, rows, why);
    assert.deepEqual(next.map(({ name }) => name), names); // prettier-ignore
    assert.equal(await fleet.read(store.db), next, `${why}: and then the same`);
    rows = next;
  };
  assert.equal(await fleet.read(store.db), rows);
  await add("b");
  await differs("one came", ["a", "b"]);
  await change("a", (row, tx) => updateNode(tx, row, { cordoned: true }));
  await differs("one was cordoned", ["a", "b"]);
  assert.equal(rows[0]!.cordoned, true);
  await change("b", (row, tx) => removeNode(tx, row));
  await differs("one was forgotten", ["a"]);
  await add("b");
  await differs("the name was given again", ["a", "b"]);
  await store.db.execute("update nodes set phase = 'Ready'");
  await store.transaction((tx) => markSilent(tx, ["b"]));
  await differs("one fell silent", ["a", "b"]);
  assert.equal(rows[1]!.phase, "Unknown");
});
