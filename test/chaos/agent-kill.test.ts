/**
 * Flow D and A1: an agent is killed while its containers run, and one ends meanwhile. The containers go on, the exit code
 * arrives after the restart, and the journal has neither a gap nor a double (D4).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, startFleet } from "@berth/testkit";
import { journalsAreWhole } from "../support/journals.ts";
import { pushHello, startsByExecution, tasksOf, workloadManifest } from "../support/fleet.ts";

void test(
  "kill -9 of an agent loses no container, no exit code and no journal entry",
  { timeout: 120_000 },
  async () => {
    await using fleet = await startFleet({ nodes: 1 });
    const image = await pushHello(fleet);
    const [agent] = fleet.agents;
    await fleet.berth(["ns", "create", "demo"]);
    const lasting = workloadManifest({ name: "lasting", image, replicas: 2, args: ["sleep", "1000"] });
    const brief = workloadManifest({
      name: "brief",
      image,
      replicas: 1,
      restart: "never",
      args: ["sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"],
    });
    await fleet.berth(["apply", "-f", "-", "--wait"], `${lasting}\n---\n${brief}`);
    await eventually("the trap", async () => (await fleet.berth(["-n", "demo", "logs", "brief"])).includes("ready"));
    const before = agent!.processes().map(({ pid }) => pid);

    await agent!.kill();
    const [briefShell] = containerPids(await agent!.host.exec(["ps", "-eo", "pid,args"]), "exit 42");
    assert.ok(briefShell !== undefined, "the container that shall end goes on without its agent");
    process.kill(briefShell, "SIGTERM");
    await agent!.start();

    const ended = await eventually(
      "the exit code",
      async () => (await tasksOf(fleet, "brief")).find((task) => task.status.exitCode !== undefined),
      { timeoutMs: 20_000 },
    );
    assert.equal(ended.status.exitCode, 42);
    assert.equal(ended.status.phase, "Failed");
    const still = new Set(agent!.processes().map(({ pid }) => pid));
    const lost = before.filter((pid) => !still.has(pid));
    assert.ok(lost.length <= 2, `only the ended container's processes are gone, not ${lost.length}`);
    assert.deepEqual(
      (await tasksOf(fleet, "lasting")).map((task) => task.status.phase),
      ["Running", "Running"],
    );
    for (const [execution, count] of await startsByExecution(fleet)) assert.equal(count, 1, execution);
    await journalsAreWhole(fleet);
  },
);

function containerPids(listing: string, marker: string): number[] {
  return listing
    .split("\n")
    .filter((line) => line.includes(marker) && !line.includes("conmon") && !line.includes("ps -eo"))
    .map((line) => Number(line.trim().split(/\s+/)[0]));
}
