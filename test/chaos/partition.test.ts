/**
 * D6: a node that is cut off is shown as unknown, never as failed. Its containers go on, and what happened on it while it
 * was away arrives when it is back.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { eventually, startFleet } from "@berth/testkit";
import { phaseOf, pushHello, startsByExecution, tasksOf, workloadManifest } from "../support/fleet.ts";

/** Leases last 4 s: it is Unknown most of the time. */
const CUT_MS = 15_000;

void test(
  "a node cut off for many leases is Unknown, not failed, and nothing is lost when it is back",
  { timeout: 150_000 },
  async () => {
    await using fleet = await startFleet({ nodes: 2 });
    const image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    const steady = workloadManifest({
      name: "steady",
      image,
      replicas: 2,
      onNodeLoss: "keep",
      args: ["sleep", "1000"],
    });
    const ending = workloadManifest({
      name: "ending",
      image,
      replicas: 2,
      restart: "never",
      onNodeLoss: "keep",
      args: ["sleep", "9"],
    });
    await fleet.berth(["apply", "-f", "-", "--wait"], `${steady}\n---\n${ending}`);
    const lost = fleet.agents[1]!;
    const before = await tasksOf(fleet, "steady");

    const cutAt = performance.now();
    await lost.host.cut();
    await eventually("the node is Unknown", async () => (await phaseOf(fleet, "node-2")) === "Unknown", {
      timeoutMs: 15_000,
    });
    const [heading = "", ...rows] = (await fleet.berth(["nodes", "-o", "wide"])).split("\n");
    const row = rows.find((each) => each.startsWith("node-2 "))!;
    assert.match(row, /node-2\s+Unknown/);
    assert.match(row.slice(heading.indexOf("REPLACEABLE")), /^2 no /, "nothing ends what is kept");
    const during = [...(await tasksOf(fleet, "steady")), ...(await tasksOf(fleet, "ending"))].filter(
      (task) => task.spec.node === "node-2",
    );
    assert.equal(during.length, 2);
    for (const task of during) {
      assert.equal(task.status.certainty, "unreachable", task.metadata.name);
      assert.equal(task.status.phase, "Running", "the last phase known, and never Failed");
    }
    assert.match(await fleet.berth(["-n", "demo", "get", "tasks"]), /Unknown \(was Running/);
    await delay(Math.max(0, CUT_MS - (performance.now() - cutAt)));
    await lost.host.heal();

    await eventually("the node is Ready", async () => (await phaseOf(fleet, "node-2")) === "Ready", {
      timeoutMs: 30_000,
    });
    const ended = await eventually(
      "the exit that happened meanwhile",
      async () => {
        const found = await tasksOf(fleet, "ending");
        return (
          found.every((task) => task.status.phase === "Succeeded" && task.status.certainty === "observed") && found
        );
      },
      { timeoutMs: 30_000 },
    );
    for (const task of ended) assert.equal(task.status.exitCode ?? 0, 0);
    const after = await tasksOf(fleet, "steady");
    assert.deepEqual(after.map((task) => task.metadata.uid).sort(), before.map((task) => task.metadata.uid).sort());
    for (const task of after)
      assert.deepEqual([task.status.phase, task.status.certainty, task.status.attempt], ["Running", "observed", 1]);
    for (const [execution, count] of await startsByExecution(fleet)) assert.equal(count, 1, execution);
  },
);
