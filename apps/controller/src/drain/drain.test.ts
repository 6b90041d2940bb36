/** Drains on a real Postgres, with agents that only keep journals: what moves when, what holds it up, what no crash changes. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { NodeDrainSchema, type NodeDrain, type NodeDrainStatus } from "@berth/proto";
import { drainStatusOf, getNode, listEvents, lockNode, updateNode } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { MOVE_FAILPOINT } from "../failpoints.ts";
import { fewestUp } from "../testing/budget-watch.ts";
import {
  startTestDatabases,
  TestFleet,
  type SpecInit,
  type TestDatabases,
  type TestFleetOptions,
} from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

/** Nobody falls silent because the machine is busy. */
const STEADY = { leaseTtlMs: 20_000 };

async function openFleet(nodes: number, options: TestFleetOptions = STEADY): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases, options);
  await fleet.startController();
  for (let n = 1; n <= nodes; n += 1) await fleet.addAgent(`node-${n}`);
  return fleet;
}

type DrainInit = Exclude<MessageInitShape<typeof NodeDrainSchema>, NodeDrain>;

/** As the API does it. */
async function drain(fleet: TestFleet, name: string, init: DrainInit | null = {}): Promise<void> {
  await fleet.store.transaction(async (tx) => {
    const row = (await lockNode(tx, name))!;
    const asked = init === null ? null : create(NodeDrainSchema, init);
    await updateNode(tx, row, { cordoned: asked !== null, drain: asked });
  });
}

async function reached(fleet: TestFleet, name: string, phase: string): Promise<NodeDrainStatus> {
  return await eventually(
    `the drain of ${name} is ${phase}`,
    async () => {
      const status = drainStatusOf((await getNode(fleet.store.db, name))!);
      if (status?.phase === phase) return status;
      throw new Error(`${status?.phase} ${status?.tasks.map((task) => `${task.name} ${task.message}`).join("; ")}`);
    },
    { timeoutMs: 15_000 },
  );
}

const runningOn = (fleet: TestFleet, name: string): number => fleet.wires.agents.get(name)!.running.length;

async function drainEvents(fleet: TestFleet): Promise<string[]> {
  const { items } = await listEvents(fleet.store.db, { pageSize: 1_000 });
  return items.filter(({ topic }) => topic === "/nodes/drain").map(({ reason }) => reason);
}

void test("a drain moves every task elsewhere without one fewer running, and says when the node is empty", async () => {
  await using fleet = await openFleet(3);
  await fleet.apply("web", { replicas: 6 });
  await fleet.apply("agent", { everyNode: true });
  await fleet.converged("web", 6);
  await fleet.converged("agent", 3);
  await drain(fleet, "node-1");
  const status = await reached(fleet, "node-1", "Drained");
  assert.equal(status.total, 2);
  const rows = await fleet.converged("web", 6);
  assert.ok(rows.every((row) => row.node !== "node-1"));
  assert.equal(runningOn(fleet, "node-1"), 1, "what belongs to the node stays");
  assert.equal(await fewestUp(fleet.store, "web", 6), 6);
  assert.deepEqual(await drainEvents(fleet), ["Drained"]);
  await drain(fleet, "node-1", null);
  await fleet.apply("web", { replicas: 9 });
  const more = await fleet.converged("web", 9);
  assert.ok(
    more.some((row) => row.node === "node-1"),
    "it is used again",
  );
});

void test("a drain of two nodes at once keeps the budget of what must not run twice", async () => {
  await using fleet = await openFleet(4);
  await fleet.apply("db", { replicas: 8, onNodeLoss: "keep", disruption: { minAvailable: "6" } });
  await fleet.converged("db", 8);
  await Promise.all([drain(fleet, "node-1"), drain(fleet, "node-2")]);
  await reached(fleet, "node-1", "Drained");
  await reached(fleet, "node-2", "Drained");
  await fleet.converged("db", 8);
  assert.ok((await fewestUp(fleet.store, "db", 8)) >= 6);
  assert.deepEqual([...new Set(fleet.starts().values())], [1]);
});

void test("a drain says by name what holds it up, gives up or forces at its deadline, and begins anew", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("db", { replicas: 2, onNodeLoss: "keep", disruption: { maxUnavailable: "0" } });
  const before = await fleet.converged("db", 2);
  const held = before.find((row) => row.node === "node-1")!;
  await drain(fleet, "node-1", { deadline: durationFromMs(400), onDeadline: "giveUp" });
  const blocked = await eventually("what holds it up", async () => {
    const status = drainStatusOf((await getNode(fleet.store.db, "node-1"))!);
    return (status?.remaining === 1 && status) || undefined;
  });
  const [task] = blocked.tasks;
  assert.equal(`${task!.name}: ${task!.message}`, `${held.name}: budget of db allows 0 more (0 down, 0 allowed)`);
  await reached(fleet, "node-1", "GaveUp");
  assert.equal(runningOn(fleet, "node-1"), 1);
  await drain(fleet, "node-1", { deadline: durationFromMs(100), onDeadline: "force" });
  await reached(fleet, "node-1", "Drained");
  assert.equal((await fleet.converged("db", 2)).filter((row) => row.node === "node-2").length, 2);
  assert.deepEqual(await drainEvents(fleet), ["DrainGaveUp", "DrainForced", "Drained"]);
});

/** Two tasks of `name` on node-1, with a probe; what comes to node-2 is not well until it is said to be. */
async function drainBehindProbe(fleet: TestFleet, name: string, spec: Omit<SpecInit, "container">): Promise<void> {
  const health = { readiness: { exec: { command: ["true"] } } };
  const placement = { nodeSelector: { pool: "old" } };
  fleet.wires.agents.get("node-1")!.onStart = (agent, uid) => agent.health(uid, "healthy");
  fleet.wires.agents.get("node-2")!.onStart = (agent, uid) => agent.health(uid, "unhealthy", "exit code 7");
  await fleet.apply(name, { ...spec, replicas: 2, placement, container: { health } });
  await fleet.converged(name, 2);
  await fleet.store.transaction(async (tx) => {
    for (const node of ["node-1", "node-2"]) {
      await updateNode(tx, (await lockNode(tx, node))!, { labels: { pool: "old" } });
    }
  });
  await drain(fleet, "node-1");
}

const PROBED = [
  { name: "web", spec: { onNodeLoss: "replace" }, up: 2, why: /^its replacement web-\w+ on node-2 runs and is not ready: .*exit code 7/ },
  { name: "db", spec: { onNodeLoss: "keep" }, up: 1, why: /^budget of db allows 0 more \(1 down, 1 allowed\); db-\w+ on node-2 runs and is not ready: .*exit code 7/ },
] as const; // prettier-ignore
for (const { name, spec, up, why } of PROBED) {
  void test(`a drain takes no further task of ${name} while what replaces the first one fails its probe, and says so`, async () => {
    await using fleet = await TestFleet.open(databases, STEADY);
    await fleet.startController();
    await fleet.addAgent("node-1", { labels: { pool: "old" } });
    await fleet.addAgent("node-2");
    await drainBehindProbe(fleet, name, spec);
    const held = await eventually("why it is held", async () => {
      const status = drainStatusOf((await getNode(fleet.store.db, "node-1"))!);
      return status?.tasks.find((task) => task.state === "Blocked" && why.test(task.message)) && status;
    });
    assert.equal(held.remaining, up, "what runs well is left alone");
    assert.equal(runningOn(fleet, "node-2"), 1);
    const next = fleet.wires.agents.get("node-2")!;
    next.onStart = (agent, uid) => agent.health(uid, "healthy");
    for (const { task } of next.executions.values()) next.health(task.taskUid, "healthy");
    await reached(fleet, "node-1", "Drained");
    assert.ok((await fewestUp(fleet.store, name, 2)) >= up);
    assert.ok((await fleet.converged(name, 2)).every((row) => row.health === "healthy"));
  });
}

void test("a drain does not move what a silent node possibly runs, not even by force", async () => {
  await using fleet = await openFleet(3, {});
  await fleet.apply("db", { onNodeLoss: "keep" });
  const [row] = await fleet.converged("db", 1);
  const agent = fleet.wires.agents.get(row!.node!)!;
  agent.silent = true;
  await eventually("it is Unknown", async () => (await getNode(fleet.store.db, agent.name))?.phase === "Unknown");
  await drain(fleet, agent.name, { deadline: durationFromMs(0), onDeadline: "force" });
  const status = await reached(fleet, agent.name, "Forcing");
  assert.match(status.tasks[0]!.message, /^its node is silent/);
  agent.silent = false;
  await reached(fleet, agent.name, "Drained");
  await fleet.converged("db", 1);
  assert.deepEqual([...fleet.starts().values()], [1, 1]);
});

for (const name of [MOVE_FAILPOINT, "placement.after-assign", "dispatch.before-add", "ingest.after-store"]) {
  void test(`a controller that dies at ${name} amid a drain exceeds no budget, and the next one goes on`, async () => {
    await using fleet = await TestFleet.open(databases, STEADY);
    const { promise: died, resolve: die } = Promise.withResolvers<void>();
    let armed = false;
    let dead = false;
    await fleet.startController((passed) => {
      if (passed === name && armed) {
        dead = true;
        die();
      }
      if (dead) throw new Error(`died at ${name}`);
    });
    for (let n = 1; n <= 3; n += 1) await fleet.addAgent(`node-${n}`);
    await fleet.apply("web", { replicas: 6 });
    await fleet.apply("db", { replicas: 6, onNodeLoss: "keep", disruption: { maxUnavailable: "2" } });
    await fleet.converged("web", 6);
    await fleet.converged("db", 6);
    armed = true;
    await drain(fleet, "node-1");
    await died;
    await fleet.stopController();
    await fleet.startController();
    await reached(fleet, "node-1", "Drained");
    await fleet.converged("web", 6);
    await fleet.converged("db", 6);
    assert.equal(await fewestUp(fleet.store, "web", 6), 6);
    assert.ok((await fewestUp(fleet.store, "db", 6)) >= 4);
    assert.deepEqual([...new Set(fleet.starts().values())], [1]);
  });
}
