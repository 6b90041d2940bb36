/** A sample of `npm run soak -- streams`: bulk bytes both ways beside readers that stall, while the node's lease stays held. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startFleet } from "@berth/testkit";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";
import { runStreamLoad } from "../support/stream-load.ts";

const BYTES = 24 * 1024 * 1024;
/** What a stream may take of memory: windows, pieces under way, and what a collector lets lie for a while. */
const MOST_MEGABYTES = 120;

void test("exec and cp carry bulk bytes whole beside stalled readers, in bounded memory, with the lease held", async () => {
  await using fleet = await startFleet({ nodes: 1, leaseTtlMs: 3_000 });
  const image = await pushHello(fleet);
  await fleet.berth(["ns", "create", "demo"]);
  const manifest = workloadManifest({ name: "load", image, replicas: 1, args: ["sleep", "100000"] });
  await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], manifest);
  const task = (await tasksOf(fleet, "load"))[0]!.metadata.name;
  for (const report of await runStreamLoad(fleet, { task, bytes: BYTES, seed: 11 })) {
    assert.ok(report.controllerMegabytes < MOST_MEGABYTES, `${report.name}: ${report.controllerMegabytes} MB`);
    assert.ok(report.agentMegabytes < MOST_MEGABYTES, `${report.name}: ${report.agentMegabytes} MB`);
  }
});
