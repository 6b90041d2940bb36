/**
 * A node is emptied while its workload goes on: the drain outlives the command that asked for it and the controller, which is
 * killed amid it, and never has one task fewer than the workload wants (docs/operations/drain.md).
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { nodeLeftovers, pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";

void describe("a node is drained", { timeout: 240_000 }, () => {
  let fleet: Fleet;
  let image: string;

  before(async () => {
    fleet = await startFleet({ nodes: 2 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  const apply = (name: string, replicas: number, more: object = {}): Promise<string> => {
    const manifest = JSON.parse(workloadManifest({ name, image, replicas, args: ["sleep", "1000"] })) as {
      spec: object;
    };
    const text = JSON.stringify({ ...manifest, spec: { ...manifest.spec, ...more } });
    return fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], text);
  };

  void test("its tasks move though the controller is killed amid it; the command, asked again, follows to the end", async () => {
    await apply("web", 4);
    const before = await tasksOf(fleet, "web");
    assert.equal(before.filter((task) => task.spec.node === "node-1").length, 2);
    await fleet.controller.stop();
    await fleet.controller.start("reconcile.after-moves");
    const asked = await fleet.cli("drain", "node-1", "--no-wait");
    assert.equal(asked.code, 0, asked.stderr);
    assert.ok(await fleet.controller.ended(20_000), "the controller never moved a task");
    await fleet.controller.start();
    const followed = await fleet.cli("drain", "node-1");
    assert.equal(followed.code, 0, followed.stderr);
    assert.match(followed.stderr, /node\/node-1 is drained already; this follows it/);
    assert.match(followed.stdout, /^node\/node-1 drained: 2 tasks have left\n$/);
    const tasks = await tasksOf(fleet, "web");
    assert.deepEqual(tasks.map((task) => `${task.spec.node} ${task.status.phase}`), Array(4).fill("node-2 Running")); // prettier-ignore
    assert.match(await fleet.berth(["nodes"]), /node-1 +Ready,drained /);
    await eventually("nothing is left on the node", async () => (await nodeLeftovers(fleet.agents[0]!)).length === 0);
    assert.match(await fleet.berth(["uncordon", "node-1"]), /uncordoned/);
    assert.match(await fleet.berth(["nodes"]), /node-1 +Ready /);
  });

  void test("a budget that allows nothing is named; the drain gives up at its deadline with code 1, and force does not", async () => {
    await apply("db", 1, { onNodeLoss: "keep", disruption: { minAvailable: "100%" } });
    const [task] = await tasksOf(fleet, "db");
    const { node } = task!.spec;
    const gaveUp = await fleet.cli("drain", node, "--deadline", "2s");
    assert.equal(gaveUp.code, 1);
    const held = `${task!.metadata.name}: budget of db allows 0 more (0 down, 0 allowed)`;
    assert.ok(gaveUp.stderr.includes(held), gaveUp.stderr);
    assert.equal((await tasksOf(fleet, "db"))[0]!.metadata.uid, task!.metadata.uid);
    const forced = await fleet.cli("drain", node, "--deadline", "0s", "--force");
    assert.equal(forced.code, 0, forced.stderr);
    const [moved] = await eventually("it runs elsewhere", async () => {
      const tasks = await tasksOf(fleet, "db");
      return tasks.length === 1 && tasks[0]!.status.phase === "Running" && tasks;
    });
    assert.notEqual(moved!.spec.node, node);
    await fleet.berth(["uncordon", node]);
  });
});
