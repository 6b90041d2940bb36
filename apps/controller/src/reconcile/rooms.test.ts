/** What has ended and gave its room back is not begun again past the bounds of placement, whatever begins it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { TaskRow } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { startTestDatabases, TestFleet, type SpecInit, type TestDatabases } from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const CAPACITY_MILLIS = 1_000;
const withCpu = (cpu: string, image = "busybox"): NonNullable<SpecInit["container"]> => ({ image, resources: { cpu } });

async function openFleet(): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  await fleet.addAgent("node-1", { cpuMillis: CAPACITY_MILLIS });
  return fleet;
}

/** By what the node itself runs. */
function runningMillis(fleet: TestFleet): number {
  const { running } = fleet.wires.agents.get("node-1")!;
  return running.reduce((sum, { container }) => sum + parseInt(container!.resources!.cpu, 10), 0);
}

const waiting = (fleet: TestFleet, workload: string): Promise<TaskRow> =>
  eventually("its next task waits for room", async () => {
    const row = (await fleet.tasks(workload)).find(({ node, reason }) => node === null && reason === "NoNodeFits");
    return row ?? Promise.reject(new Error(JSON.stringify(await fleet.tasks(workload))));
  });

void test("a task that has ended is updated only where there is room for it again", async () => {
  await using fleet = await openFleet();
  const agent = fleet.wires.agents.get("node-1")!;
  await fleet.apply("once", { replicas: 1, restart: { policy: "never" }, container: withCpu("600m") });
  const [first] = await fleet.converged("once", 1);
  agent.exit(first!.uid, 0);
  await fleet.apply("filler", { replicas: 1, container: withCpu("600m") });
  await fleet.converged("filler", 1);
  await fleet.apply("once", { replicas: 1, restart: { policy: "never" }, container: withCpu("600m", "busybox:2") });
  await waiting(fleet, "once");
  assert.equal(runningMillis(fleet), 600);
  await fleet.delete("filler");
  await fleet.converged("once", 1);
});

void test("a task of every node that grows is given more only where there is room for it", async () => {
  await using fleet = await openFleet();
  await fleet.apply("each", { everyNode: true, container: withCpu("300m") });
  await fleet.converged("each", 1);
  await fleet.apply("filler", { replicas: 1, container: withCpu("600m") });
  await fleet.converged("filler", 1);
  await fleet.apply("each", { everyNode: true, container: withCpu("500m") });
  await waiting(fleet, "each");
  assert.ok(runningMillis(fleet) <= CAPACITY_MILLIS, `${runningMillis(fleet)}`);
  await fleet.delete("filler");
  await fleet.converged("each", 1);
  assert.equal(runningMillis(fleet), 500);
});
