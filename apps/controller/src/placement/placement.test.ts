/** Placement on a real Postgres with fake agents: what the model decides becomes tasks on nodes, and nothing else does. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PlacementBatch } from "@berth/model";
import {
  listEvents,
  lockNode,
  openStore,
  PLACEMENT_LOCK,
  tryTransactionLock,
  unplacedTasks,
  updateNode,
  warmNodes,
  type NodePatch,
  type NodeTaint,
  type Store,
  type TaskRow,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { HandFleet } from "../testing/hand-fleet.ts";
import { startTestDatabases, TestFleet, type SpecInit, type TestDatabases } from "../testing/test-fleet.ts";
import { evictTasks } from "./evict.ts";
import { NO_OVERCOMMIT, readFleet } from "./fleet.ts";
import { preempt } from "./preempt.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

/** Nodes with one core each. */
async function openFleet(
  nodes: number,
  labels: (n: number) => Record<string, string> = () => ({}),
): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  for (let n = 1; n <= nodes; n += 1) await fleet.addAgent(`node-${n}`, { cpuMillis: 1_000, labels: labels(n) });
  return fleet;
}

const cpu = (millis: number) => ({ container: { resources: { cpu: `${millis}m` } } });

async function patchNode(fleet: TestFleet, name: string, patch: NodePatch): Promise<void> {
  await fleet.store.transaction(async (tx) => updateNode(tx, (await lockNode(tx, name))!, patch));
}

const taint = (key: string, effect: NodeTaint["effect"]): NodeTaint => ({
  key,
  value: "",
  effect,
  addedAt: new Date().toISOString(),
});

function refused(fleet: TestFleet, workload: string, message: RegExp): Promise<TaskRow> {
  return eventually(`${workload} waits: ${message}`, async () => {
    const row = (await fleet.tasks(workload)).find((each) => each.node === null && message.test(each.message));
    return row;
  });
}

async function eventsOf(fleet: TestFleet, topic: string) {
  const { items } = await listEvents(fleet.store.db, { pageSize: 1_000 });
  return items.filter((event) => event.topic === topic);
}

void test("placement promises as much of a node as its factor allows, and no more", async () => {
  await using fleet = await openFleet(1);
  await fleet.apply("web", { replicas: 3, ...cpu(500) });
  await refused(fleet, "web", /1 has 0 cpu left of 500m asked/);
  assert.equal((await fleet.tasks("web")).filter((row) => row.node !== null).length, 2);
  await patchNode(fleet, "node-1", { cpuOvercommit: 150 });
  await fleet.converged("web", 3);
});

void test("placement keeps tasks off tainted and cordoned nodes unless they tolerate it", async () => {
  await using fleet = await openFleet(1);
  await patchNode(fleet, "node-1", { taints: [taint("gpu", "NoSchedule")] });
  await fleet.apply("web", { replicas: 1 });
  await refused(fleet, "web", /1 has taint gpu:NoSchedule that it does not tolerate/);
  const tolerations = [{ key: "gpu", operator: "Exists" }];
  await fleet.apply("gpu", { replicas: 1, placement: { tolerations } });
  await fleet.converged("gpu", 1);
  await patchNode(fleet, "node-1", { taints: [], cordoned: true });
  await refused(fleet, "web", /1 is cordoned/);
  const cordoned = [{ key: "berth.io/cordoned", operator: "Exists" }];
  await fleet.apply("tool", { replicas: 1, placement: { tolerations: cordoned } });
  await fleet.converged("tool", 1);
});

void test("placement prefers nodes whose journals said that they have the image", async () => {
  await using fleet = await openFleet(3);
  await fleet.apply("first", { replicas: 1, placement: { nodeSelector: {} } });
  const [first] = await fleet.converged("first", 1);
  await eventually("the journal's word is stored", async () => {
    const warm = await warmNodes(fleet.store.db, ["docker.io/library/busybox:latest"]);
    return [...warm.values()].some((names) => names.has(first!.node!));
  });
  await fleet.delete("first");
  await eventually("it is gone", async () => (await fleet.tasks("first")).length === 0);
  for (const name of ["a", "b"]) {
    await fleet.apply(name, { replicas: 1 });
    const [row] = await fleet.converged(name, 1);
    assert.equal(row!.node, first!.node);
  }
});

void test("placement places a gang whole or not at all, also when its room comes bit by bit", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("filler", { replicas: 1, ...cpu(1_000) });
  await fleet.converged("filler", 1);
  await fleet.apply("gang", { replicas: 3, placement: { gang: true }, ...cpu(500) });
  await refused(fleet, "gang", /2 of 3 tasks of the gang fit together; 0 of 2 nodes fit/);
  assert.ok((await fleet.tasks("gang")).every((row) => row.node === null));
  await fleet.delete("filler");
  await fleet.converged("gang", 3);
});

void test("placement makes room for higher priority, and starts nothing before it is free", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("low", { replicas: 4, placement: { priority: -1 }, ...cpu(500) });
  const low = await fleet.converged("low", 4);
  // Its node does not answer yet: what is to stop there goes on.
  for (const agent of fleet.wires.agents.values()) agent.holdStops = true;
  await fleet.apply("high", { replicas: 1, placement: { priority: 10 }, ...cpu(1_000) });
  const waiting = await eventually("room is being made", async () => {
    const [row] = await fleet.tasks("high");
    return row?.nominatedNode ? row : undefined;
  });
  assert.deepEqual([waiting.node, waiting.reason], [null, "MakingRoom"]);
  // Others of low priority do not get what is kept for it.
  await refused(fleet, "low", /0 of 2 nodes fit/);
  for (const agent of fleet.wires.agents.values()) agent.releaseStops();
  const [high] = await fleet.converged("high", 1);
  assert.equal(high!.node, waiting.nominatedNode);
  const stopped = await eventsOf(fleet, "/tasks/preempt");
  assert.equal(stopped.length, 2);
  assert.ok(stopped.every(({ uid, node }) => low.some((row) => row.uid === uid) && node === high!.node));
  assert.match(stopped[0]!.message, /^stopped to make room for shop\/high-\w+, which is above its priority -1$/);
  const [made] = await eventsOf(fleet, "/scheduler/preempt");
  assert.match(
    made!.message,
    /^room is made on node node-\d: shop\/low-\w+, shop\/low-\w+ of lower priority are stopping$/,
  );
  const live = (await fleet.tasks("low")).filter((row) => row.desired === "Run" && row.node !== null);
  assert.equal(live.length, 2);
});

void test("preempt stops nobody elsewhere because room that it waits for was freed while the fleet was read", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("low", { replicas: 4, placement: { priority: -1 }, ...cpu(500) });
  await fleet.converged("low", 4);
  for (const agent of fleet.wires.agents.values()) agent.holdStops = true;
  await fleet.apply("high", { replicas: 1, placement: { priority: 10 }, ...cpu(1_000) });
  const isPromised = async () => (await fleet.tasks("high")).some((row) => row.nominatedNode !== null);
  await eventually("room is being made", isPromised);
  await fleet.store.transaction(async (tx) => {
    // Nobody else places meanwhile.
    await eventually("the placer pauses", () => tryTransactionLock(tx, PLACEMENT_LOCK));
    const rows = await eventually("nobody else holds its row", async () => {
      const unplaced = (await unplacedTasks(tx, undefined, 10)).map(({ row }) => row);
      const high = unplaced.filter(({ workload }) => workload === "high");
      return high.length === 1 ? high : undefined;
    });
    const read = await readFleet(tx, rows, NO_OVERCOMMIT);
    const batch = new PlacementBatch(read.fleet);
    const [decision] = batch.place(read.tasks);
    assert.equal(decision!.node, undefined);
    for (const agent of fleet.wires.agents.values()) agent.releaseStops();
    const live = async (): Promise<number> =>
      (await fleet.tasks("low")).filter(({ phase }) => phase === "Running").length;
    await eventually("those that were stopped have ended", async () => (await live()) === 2);
    const room = await preempt(tx, batch, read.tasks, new Map(rows.map((row) => [row.uid, row])));
    assert.deepEqual([room.stops, room.events], [[], []]);
  });
  await fleet.converged("high", 1);
  assert.equal((await eventsOf(fleet, "/tasks/preempt")).length, 2);
});

void test("placement stops nobody for what fits nowhere, is told to wait, or whose victims' budget is spent", async () => {
  await using fleet = await openFleet(1);
  await fleet.apply("low", {
    replicas: 2,
    placement: { priority: -1 },
    disruption: { maxUnavailable: "0" },
    ...cpu(500),
  });
  await fleet.converged("low", 2);
  await fleet.apply("huge", { replicas: 1, placement: { priority: 10 }, ...cpu(2_000) });
  await refused(fleet, "huge", /1 has 0 cpu left of 2 asked/);
  await fleet.apply("patient", { replicas: 1, placement: { priority: 10, preemption: "Never" }, ...cpu(500) });
  await refused(fleet, "patient", /1 has 0 cpu left of 500m asked/);
  await fleet.apply("high", { replicas: 1, placement: { priority: 10 }, ...cpu(500) });
  await refused(fleet, "high", /1 has 0 cpu left of 500m asked/);
  await fleet.delete("patient");
  await fleet.apply("low", {
    replicas: 2,
    placement: { priority: -1 },
    disruption: { maxUnavailable: "1" },
    ...cpu(500),
  });
  await fleet.converged("high", 1);
  assert.equal((await eventsOf(fleet, "/tasks/preempt")).length, 1);
});

void test("placement makes tasks leave a node with a NoExecute taint, at once or when they have borne it long enough", async () => {
  await using fleet = await openFleet(2);
  const tolerations = (seconds?: bigint) => [
    {
      key: "broken",
      operator: "Exists",
      effect: "NoExecute",
      ...(seconds === undefined ? {} : { tolerateFor: { seconds } }),
    },
  ];
  await fleet.apply("web", { replicas: 2 });
  await fleet.apply("bears", { replicas: 2, placement: { tolerations: tolerations(3_600n) } });
  await fleet.apply("stays", { replicas: 2, placement: { tolerations: tolerations() } });
  for (const name of ["web", "bears", "stays"]) await fleet.converged(name, 2);
  await patchNode(fleet, "node-1", { taints: [taint("broken", "NoExecute")] });
  const on = async (workload: string, node: string): Promise<number> =>
    (await fleet.tasks(workload)).filter((row) => row.node === node && row.phase === "Running").length;
  await eventually("web has left", async () => (await on("web", "node-1")) === 0 && (await on("web", "node-2")) === 2);
  assert.deepEqual([await on("bears", "node-1"), await on("stays", "node-1")], [1, 1]);
  const longAgo = new Date(Date.now() - 4_000_000).toISOString();
  await patchNode(fleet, "node-1", { taints: [{ ...taint("broken", "NoExecute"), addedAt: longAgo }] });
  await eventually("bears has left", async () => (await on("bears", "node-1")) === 0);
  assert.equal(await on("stays", "node-1"), 1);
  const [evicted] = await eventsOf(fleet, "/tasks/evict");
  assert.match(evicted!.message, /^node node-1 has taint broken:NoExecute, which it does not tolerate$/);
});

void test("everyNode makes tasks only for nodes that let them in, also later", async () => {
  await using fleet = await openFleet(3);
  await patchNode(fleet, "node-2", { taints: [taint("gpu", "NoSchedule")] });
  await fleet.apply("agent", { everyNode: true });
  assert.deepEqual(new Set((await fleet.converged("agent", 2)).map((row) => row.node)), new Set(["node-1", "node-3"]));
  await patchNode(fleet, "node-2", { taints: [] });
  await fleet.converged("agent", 3);
  // What is there stays; only NoExecute makes it leave.
  await patchNode(fleet, "node-2", { taints: [taint("gpu", "NoSchedule")] });
  await fleet.converged("agent", 3);
});

const setTaint = (store: Store, name: string, given: NodeTaint): Promise<unknown> =>
  store.transaction(async (tx) => await updateNode(tx, (await lockNode(tx, name))!, { taints: [given] }));

/** Rollouts of workloads are held: their tasks stay, and are made anew, of the last good revision. */
async function openHeld(spec: SpecInit): Promise<{ readonly fleet: HandFleet; readonly store: Store }> {
  const store = await openStore({ url: await databases.create() });
  const fleet = await HandFleet.open(store, store, 2);
  for (const name of ["node-0", "node-1"]) await setTaint(store, name, taint(name, "NoSchedule"));
  await fleet.apply("web", spec);
  await goOn(fleet);
  await goOn(fleet);
  await store.db.execute("update workloads set paused = true");
  return { fleet, store };
}

async function goOn(fleet: HandFleet): Promise<void> {
  await fleet.reconcile(0, "web");
  await fleet.place(0);
  for (const node of [0, 1]) await fleet.takeOver(node);
  await fleet.ingest();
  await fleet.reconcile(0, "web");
}

const tolerating = (key: string): SpecInit => ({
  placement: { tolerations: [{ key, operator: "Exists" }] },
  container: { image: `busybox:${key}` },
});
const placesOf = async (fleet: HandFleet): Promise<string[]> =>
  (await fleet.tasks()).filter(({ desired }) => desired === "Run").map(({ node }) => node ?? "none").sort(); // prettier-ignore

void test("a task is placed, and tolerates taints, by the rules of its own revision", async () => {
  const { fleet, store } = await openHeld({ replicas: 1, ...tolerating("node-0") });
  await using _ = store;
  await fleet.apply("web", { replicas: 2, ...tolerating("node-1") });
  await goOn(fleet);
  assert.deepEqual(await placesOf(fleet), ["node-0", "node-0"], "both are of the revision that runs");
  await setTaint(store, "node-0", taint("node-1", "NoExecute"));
  await evictTasks(store);
  assert.deepEqual(await placesOf(fleet), [], "what the new revision tolerates does not help the old one");
});

void test("a task of every node stays where its own revision belongs while the rollout is held", async () => {
  const { fleet, store } = await openHeld({ everyNode: true, ...tolerating("node-0") });
  await using _ = store;
  assert.deepEqual(await placesOf(fleet), ["node-0"]);
  const { placement, ...rest } = tolerating("node-1");
  await fleet.apply("web", { everyNode: true, ...rest, placement: { ...placement, nodeSelector: { disk: "ssd" } } });
  await goOn(fleet);
  assert.deepEqual(await placesOf(fleet), ["node-0"]);
});
