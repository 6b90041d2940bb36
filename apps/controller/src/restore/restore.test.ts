/** Postgres dumped, work goes on, and the dump is put back: what must never run twice does not, and nothing is ended unasked. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { WorkloadSpecSchema } from "@berth/proto";
import { confirmStore, getNode, getStoreMeta, getWorkload, insertWorkload, listEvents, listTasks, lockTasksByUid, nodeMessage, openStore, updateTasks, workloadStatus, type Store, type TaskRow } from "@berth/store"; // prettier-ignore
import { eventually } from "@berth/testkit/servers";
import { LEASE, startTestDatabases, TestFleet, type SpecInit, type TestDatabases } from "../testing/test-fleet.ts";
import type { FakeAgent } from "../testing/fake-agent.ts";
import { addNode } from "../testing/test-api.ts";
import { evictionConfig } from "../reconcile/fleet.ts";
import { reconcileWorkload, Sight } from "../reconcile/workload.ts";
import { holdWaits, releaseNodes } from "./release.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const TERMS = { ttlMs: LEASE.ttlMs, slackMs: LEASE.fenceSlackMs };
const ONCE: SpecInit = {
  replicas: 1,
  onNodeLoss: "stopThenReplace",
  container: { stop: { grace: durationFromMs(50) } },
};

async function openFleet(nodes: number): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases);
  await fleet.startController();
  for (let n = 1; n <= nodes; n += 1) await fleet.addAgent(`node-${n}`);
  return fleet;
}

const agents = (fleet: TestFleet): FakeAgent[] => [...fleet.wires.agents.values()];
const running = (fleet: TestFleet, workload: string): string[] =>
  agents(fleet).flatMap((agent) => agent.running.filter((task) => task.workload === workload).map(() => agent.name));

/** Looks at every turn of the loop that never two run, and how many at most did. */
function watchTwo(fleet: TestFleet, workload: string): Disposable & { most: number } {
  const watch = {
    most: 0,
    [Symbol.dispose]: () => clearInterval(timer),
  };
  const timer = setInterval(() => {
    watch.most = Math.max(watch.most, running(fleet, workload).length);
  }, 1);
  return watch;
}

async function confirm(fleet: TestFleet): Promise<void> {
  await fleet.store.transaction(async (tx) => confirmStore(tx, (await getStoreMeta(tx)).storeEpoch));
}

async function allShown(fleet: TestFleet): Promise<void> {
  await eventually("all have shown what they run", async () => {
    const rows = await Promise.all(agents(fleet).map(({ name }) => getNode(fleet.store.db, name)));
    return rows.every((row) => row?.holdings === "shown");
  });
}

async function released(fleet: TestFleet): Promise<void> {
  await eventually("the store is released", async () => !(await getStoreMeta(fleet.store.db)).held, {
    timeoutMs: 20_000,
  });
}

/** The dump is put back and a controller begins on it; nodes that are silent stay so. */
async function putBack(fleet: TestFleet, dump: string): Promise<void> {
  await fleet.stopController();
  await fleet.restore(databases, dump);
  await fleet.startController();
  const meta = await getStoreMeta(fleet.store.db);
  assert.deepEqual([meta.held, meta.stopsConfirmed], [true, false]);
}

void test("a restored store starts nothing a second time that a node it has not heard runs", async () => {
  await using fleet = await openFleet(2);
  // The dump knows of the workload, not of where its task went.
  for (const agent of agents(fleet)) agent.silent = true;
  await eventually("all are silent", async () => (await getNode(fleet.store.db, "node-2"))?.phase === "Unknown");
  await fleet.apply("once", ONCE);
  await eventually("its task waits", async () => (await fleet.tasks("once")).length === 1);
  const dump = await fleet.dump(databases);
  const [first, second] = agents(fleet) as [FakeAgent, FakeAgent];
  first.silent = false;
  await fleet.converged("once", 1);
  assert.deepEqual(running(fleet, "once"), ["node-1"]);
  using watch = watchTwo(fleet, "once");
  // The node that has it is not heard for a while, the other one is at once.
  await fleet.stopController();
  first.stopper = false;
  first.silent = true;
  second.silent = false;
  await fleet.restore(databases, dump);
  await fleet.startController();
  await eventually(
    "the other has told what it runs",
    async () => (await getNode(fleet.store.db, "node-2"))?.holdings === "shown",
  );
  await confirm(fleet);
  await eventually("and is clean", async () => (await getNode(fleet.store.db, "node-2"))?.holdings === "clean");
  const waits = await holdWaits(fleet.store.db, TERMS);
  assert.ok(
    waits.some(({ node }) => node === "node-1"),
    JSON.stringify(waits),
  );
  assert.deepEqual(
    (await fleet.tasks("once")).map((row) => row.node),
    [null],
  );
  const conditions = nodeMessage((await getNode(fleet.store.db, "node-1"))!).status!.conditions;
  assert.equal(conditions.find(({ type }) => type === "StoreUnconfirmed")?.reason, "HoldingsUnknown");
  first.silent = false;
  await released(fleet);
  await fleet.converged("once", 1);
  assert.deepEqual(running(fleet, "once"), ["node-1"], "it went on, and the store knows of it again");
  assert.equal(watch.most, 1);
  assert.deepEqual([...fleet.starts().values()], [1]);
});

void test("a restored store that has forgotten an execution elsewhere ends it before it makes one of its own", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("once", ONCE);
  const [before] = (await fleet.converged("once", 1)) as [TaskRow];
  const dump = await fleet.dump(databases);
  // After the backup it goes to the other node, as a task of another name.
  const old = fleet.wires.agents.get(before.node!)!;
  old.silent = true;
  const moved = await eventually(
    "it was replaced",
    async () => (await fleet.tasks("once")).find((row) => row.node !== before.node && row.phase === "Running"),
    { timeoutMs: 20_000 },
  );
  using watch = watchTwo(fleet, "once");
  old.silent = false;
  // The test must not depend on how long a restore takes.
  for (const agent of agents(fleet)) agent.stopper = false;
  await putBack(fleet, dump);
  await allShown(fleet);
  assert.deepEqual(running(fleet, "once"), [moved.node], "nothing is ended before it is confirmed, nothing begun");
  await confirm(fleet);
  await released(fleet);
  const [after] = (await fleet.converged("once", 1)) as [TaskRow];
  assert.deepEqual(running(fleet, "once"), [after.node]);
  assert.equal(watch.most, 1);
  for (const [key, count] of fleet.starts()) assert.equal(count, 1, key);
  assert.ok(after.generation > 1_000_000_000, "its number was never used before the restore");
  const { items } = await listEvents(fleet.store.db, { pageSize: 1_000 });
  for (const topic of ["/store/restored", "/store/released"])
    assert.equal(items.filter((event) => event.topic === topic).length, 1, topic);
});

void test("a restored store takes over what its nodes run, and numbers are not given twice", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("web", { replicas: 3 });
  const rows = await fleet.converged("web", 3);
  const dump = await fleet.dump(databases);
  // After the backup one is tried again twice, and one is scaled away and forgotten by its node.
  const retried = rows.find((row) => row.slot === 0)!;
  const node = fleet.wires.agents.get(retried.node!)!;
  for (const attempt of [2, 3]) {
    node.exit(retried.uid, 1);
    await eventually(`attempt ${attempt}`, () => node.executions.get(retried.uid)?.task.attempt === attempt, {
      timeoutMs: 20_000,
    });
  }
  await fleet.apply("web", { replicas: 2 });
  const two = await fleet.converged("web", 2);
  const gone = rows.find((row) => !two.some((each) => each.uid === row.uid))!;
  const its = fleet.wires.agents.get(gone.node!)!;
  await eventually("its node holds it no more", () => its.executions.get(gone.uid)?.state === "removed");
  its.executions.delete(gone.uid);
  await putBack(fleet, dump);
  await allShown(fleet);
  const after = await fleet.converged("web", 3);
  const taken = after.find((row) => row.uid === retried.uid)!;
  assert.equal(taken.generation, retried.generation);
  assert.ok(taken.attempt >= 3, "what runs goes on");
  const anew = after.find((row) => row.uid === gone.uid)!;
  assert.ok(anew.generation > 1_000_000_000, `begun under ${anew.generation} ${anew.attempt}`);
  for (const [key, count] of fleet.starts()) assert.equal(count, 1, key);
});

void test("a restored store waits for a node that never comes back until an operator lets it go, also when controllers die", async () => {
  await using fleet = await openFleet(3);
  await fleet.apply("once", ONCE);
  const [before] = (await fleet.converged("once", 1)) as [TaskRow];
  const dump = await fleet.dump(databases);
  const lost = fleet.wires.agents.get(before.node!)!;
  lost.silent = true;
  using watch = watchTwo(fleet, "once");
  await putBack(fleet, dump);
  await fleet.stopController();
  await fleet.startController();
  await confirm(fleet);
  await fleet.stopController();
  await fleet.startController();
  await eventually(
    "it is waited for, and for no other node",
    async () => {
      const waits = await holdWaits(fleet.store.db, TERMS);
      return waits.length === 1 && waits[0]!.node === lost.name && waits[0]!.until !== undefined;
    },
    { timeoutMs: 20_000 },
  );
  await fleet.store.transaction(async (tx) => releaseNodes(tx, [(await getNode(tx, lost.name))!]));
  await released(fleet);
  const after = await eventually(
    "another one runs",
    async () => (await fleet.tasks("once")).find((row) => row.node !== lost.name && row.phase === "Running"),
    { timeoutMs: 20_000 },
  );
  assert.notEqual(after.uid, before.uid);
  assert.equal(watch.most, 1);
});

void test("what a controller that was not stopped keeps of the store is dropped when another one is in its place", async () => {
  const url = await databases.create();
  const workload = { namespace: "shop", name: "web", labels: {}, spec: create(WorkloadSpecSchema, { container: { image: "busybox" } }) }; // prettier-ignore
  const sight = new Sight(evictionConfig({}));
  const moveTo = async (store: Store, phase: string): Promise<string> =>
    await store.transaction(async (tx) => {
      const { items } = await listTasks(tx, { namespace: "shop", workload: "web" });
      const [before] = await lockTasksByUid(tx, [items[0]!.uid]);
      await updateTasks(tx, [{ before: before!, patch: { node: "node-1", phase } }]);
      return before!.workloadUid;
    });
  const runningOf = async (store: Store, uid: string): Promise<number> => {
    await store.transaction((tx) => reconcileWorkload(tx, uid, sight));
    return workloadStatus((await getWorkload(store.db, "shop", "web"))!).running;
  };
  let dump: string;
  let uid: string;
  {
    await using store = await openStore({ url });
    await addNode(store, "node-1");
    uid = (await store.transaction((tx) => insertWorkload(tx, workload))).uid;
    await store.transaction((tx) => reconcileWorkload(tx, uid, sight));
    dump = await databases.dump(url);
    await moveTo(store, "Running");
    assert.equal(await runningOf(store, uid), 1);
  }
  await using restored = await openStore({ url: await databases.restore(dump) });
  // The same version of the same row says something else now.
  await moveTo(restored, "Pulling");
  assert.equal(await runningOf(restored, uid), 0);
});
