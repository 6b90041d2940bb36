/** What an operator is told of nodes: brakes, names claimed twice, and what agents say of their hosts. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually } from "@berth/testkit/servers";
import { FakeAgent } from "../testing/fake-agent.ts";
import { findings, found } from "../testing/findings.ts";
import { EVICTION, startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

void test("findingsOf tell once of a failure domain that fell silent together, and of nodes that wait for their turn", async () => {
  await using fleet = await TestFleet.open(databases);
  await fleet.startController();
  for (let n = 1; n <= 9; n += 1) {
    await fleet.addAgent(`node-${n}`, { labels: { [EVICTION.domainLabel]: n <= 3 ? "a" : "b" } });
  }
  for (let n = 1; n <= 2; n += 1) fleet.wires.agents.get(`node-${n}`)!.silent = true;
  const domain = await found(fleet, "DomainBraked");
  assert.deepEqual([domain.area, domain.subject, domain.hint], ["held", "domain/berth.io/zone=a", "berth nodes -l berth.io/zone=a"]); // prettier-ignore
  await eventually("both", async () => {
    const { message, count, since } = await found(fleet, "DomainBraked");
    return count === 2 && since !== undefined && message.startsWith("2 of its 3 nodes fell silent together: nothing");
  });
  for (let n = 1; n <= 2; n += 1) fleet.wires.agents.get(`node-${n}`)!.silent = false;
  await eventually("it holds no more", async () => (await findings(fleet)).length === 0);

  for (const n of [4, 5]) fleet.wires.agents.get(`node-${n}`)!.silent = true;
  const slow = { ...EVICTION, evictPerMinute: 1 };
  const turn = await eventually("one waits", async () => (await findings(fleet, undefined, slow)).find(({ reason }) => reason === "EvictionRate")); // prettier-ignore
  assert.match(turn.message, /^1 silent node waits for a turn to have the tasks replaced/);
  assert.ok(Number(turn.until!.seconds) > Date.now() / 1_000 + 30, "a minute after the one before");
});

void test("findingsOf tell of an agent that is refused because its name is another's, since it was refused first", async () => {
  await using fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  await fleet.addAgent("node-1", { machineId: "machine-1" });
  const clone = new FakeAgent("node-1", fleet.wires, { machineId: "machine-2", bootId: "another" });
  await clone.beat();
  assert.match(clone.refused, /belongs to another machine/);
  const first = await found(fleet, "NodeIdentity");
  assert.equal(first.subject, "node/node-1");
  assert.match(first.message, /^an agent at an unknown address is refused: the name node-1 belongs to another machine.*berth delete node node-1$/); // prettier-ignore
  await clone.beat();
  assert.deepEqual((await found(fleet, "NodeIdentity")).since, first.since);
});

void test("findingsOf tell what agents say of their hosts, and what follows from it", async () => {
  await using fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  const full = await fleet.addAgent("node-1");
  full.conditions = [
    { type: "Ready", status: "True", message: "the agent takes work" },
    { type: "DiskPressure", status: "True", message: "3.1 % of the data root's disk is free" },
    { type: "JournalFull", status: "False", message: "" },
  ];
  (await fleet.addAgent("node-2")).stopper = false;
  const disk = await found(fleet, "NodeDiskPressure");
  assert.deepEqual([disk.area, disk.subject], ["stuck", "node/node-1"]);
  assert.equal(disk.message, "its disk is nearly full: no new tasks are placed on it (3.1 % of the data root's disk is free)"); // prettier-ignore
  assert.match((await found(fleet, "NodeStopper")).message, /^its stopper does not work: stopThenReplace tasks/);
  full.conditions = [];
  await eventually("the disk has room again", async () => (await findings(fleet)).length === 1);
});

void test("findingsOf tell of a full journal and of a clock that is off, by how much and which way, until they are well", async () => {
  await using fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  const [full, ahead, behind] = [
    await fleet.addAgent("full"),
    await fleet.addAgent("ahead"),
    await fleet.addAgent("behind"),
  ];
  // As NodeStatus of the agent says it (its own test fills a journal).
  const message = "too much waits to be stored by the controller: new work is refused";
  full.conditions = [{ type: "JournalFull", status: "True", message }];
  const journal = await found(fleet, "NodeJournalFull");
  assert.deepEqual([journal.area, journal.subject, journal.hint], ["stuck", "node/full", "berth describe node full"]);
  assert.equal(journal.message, `its journal is full: it refuses new work until the controller has stored what waits (${message})`); // prettier-ignore
  await fleet.apply("web", { replicas: 4 });
  const placed = await fleet.converged("web", 4);
  assert.ok(placed.every(({ node }) => node !== "full"), "nothing is placed on it"); // prettier-ignore

  for (const agent of [full, ahead, behind]) agent.clockAheadMs = 0;
  ahead.clockAheadMs = 600_000;
  const skew = await found(fleet, "NodeClockSkew");
  assert.equal(skew.subject, "node/ahead");
  assert.match(skew.message, /^its clock is wrong \(the node's clock is about (599|600|601) s ahead: set it by NTP\)$/);
  ahead.clockAheadMs = -4_000;
  behind.clockAheadMs = -90_000;
  const other = await eventually("the other one", async () => {
    const skews = (await findings(fleet)).filter(({ reason }) => reason === "NodeClockSkew");
    return skews.length === 1 && skews[0]!.subject === "node/behind" && skews[0];
  });
  assert.match(other.message, /about (89|90|91) s behind/);

  full.conditions = [];
  behind.clockAheadMs = 0;
  await eventually("all is well", async () => (await findings(fleet)).length === 0);
});
