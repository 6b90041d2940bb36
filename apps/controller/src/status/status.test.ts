/** What an operator is told to look at, on a real Postgres with agents that get into every kind of trouble. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { NodeDrainSchema } from "@berth/proto";
import { controllersAtWork, lockNode, MEMBERS_LOCK, openStore, reconcileLock, updateNode } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { findings, found } from "../testing/findings.ts";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

void test("findingsOf a fleet that runs as it should are none", async () => {
  await using fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  await fleet.addAgent("node-1");
  await fleet.apply("web", { replicas: 2 });
  await fleet.converged("web", 2);
  assert.deepEqual(await findings(fleet), []);
});

void test("findingsOf name what nobody can place, what fails again and again, and what holds a drain", async () => {
  await using fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  const agent = await fleet.addAgent("node-1");
  await fleet.apply("picky", { replicas: 3, placement: { nodeSelector: { disk: "ssd" } } });
  const unplaceable = await found(fleet, "Unplaceable");
  assert.equal(unplaceable.subject, "workload/shop/picky");
  assert.equal(unplaceable.message, "3 tasks without a node: 0 of 1 node fits: 1 lacks label disk=ssd");
  assert.match(unplaceable.hint, /^berth -n shop explain task picky-/);

  await fleet.apply("db", { onNodeLoss: "keep", disruption: { maxUnavailable: "0" } });
  const [held] = await fleet.converged("db", 1);
  await fleet.store.transaction(async (tx) => {
    const row = (await lockNode(tx, "node-1"))!;
    await updateNode(tx, row, { cordoned: true, drain: create(NodeDrainSchema) });
  });
  const drain = await found(fleet, "DrainBlocked");
  assert.deepEqual([drain.area, drain.subject], ["held", "node/node-1"]);
  assert.ok(drain.message.includes(`${held!.name}: budget of db allows 0 more`), drain.message);
  await fleet.store.transaction(async (tx) => {
    await updateNode(tx, (await lockNode(tx, "node-1"))!, { cordoned: false, drain: null });
  });

  agent.onStart = (each, uid) => each.exit(uid, 3);
  await fleet.apply("loop", {});
  const loop = await found(fleet, "CrashLoop");
  assert.match(loop.message, /^1 task fails again and again \(3 in a row\): /);
  assert.match(loop.hint, /^berth -n shop logs --previous loop-/);
});

void test("findingsOf call what is silent uncertain, never failed, and tell that a brake holds", async () => {
  await using fleet = await TestFleet.open(databases);
  await fleet.startController();
  for (const name of ["node-1", "node-2", "node-3"]) await fleet.addAgent(name);
  await fleet.apply("web", { replicas: 3, onNodeLoss: "keep" });
  await fleet.converged("web", 3);
  const lost = ["node-1", "node-2"].map((name) => fleet.wires.agents.get(name)!);
  for (const agent of lost) agent.silent = true;
  const silent = await eventually("a silent node with its task", async () => {
    const finding = await found(fleet, "NodeSilent");
    return finding.count === 1 && finding;
  });
  assert.equal(silent.area, "uncertain");
  assert.match(silent.message, /^is silent: 1 task possibly runs until it is heard$/);
  const brake = await found(fleet, "EvictionBraked");
  assert.match(brake.message, /^2 of 3 nodes fell silent together/);
  assert.ok((await findings(fleet)).every(({ message, reason }) => !/fail/i.test(`${reason} ${message}`)));
});

void test("findingsOf tell of the control plane: servers away, nobody at work", async () => {
  await using fleet = await TestFleet.open(databases);
  const all = await findings(fleet, [{ name: "nats", ok: false, message: "refused", latencyMs: 2 }]);
  assert.deepEqual(
    all.map(({ area, reason, subject }) => `${area} ${reason} ${subject}`),
    ["control ServerAway nats", "control NobodyWorks controllers"],
  );
});

void test("controllersAtWork names those that take part, and what each holds", async () => {
  const url = await databases.create();
  await using one = await openStore({ url, name: "host-1" });
  await using two = await openStore({ url, name: "host-2", migrate: false });
  await using idle = await openStore({ url, name: "host-3", migrate: false });
  assert.equal(await one.locks.members(MEMBERS_LOCK), 1);
  assert.equal(await two.locks.members(MEMBERS_LOCK), 2);
  await using _lock = await one.locks.tryAcquire(reconcileLock(3));
  const rows = await controllersAtWork(idle.db);
  assert.deepEqual(
    rows.map((row) => [row.name, row.reconcilePartitions, row.journalShards]),
    [
      ["host-1", 1, 0],
      ["host-2", 0, 0],
    ],
  );
});
