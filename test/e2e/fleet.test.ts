/**
 * The main job, end to end on two nodes: what a user does with `berth`, against real servers, registries and containers
 * (DESIGN, flow A). After a delete the nodes hold nothing of the tasks (A6).
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { nodeLeftovers, pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";

void describe("a fleet of two nodes", { timeout: 240_000 }, () => {
  let fleet: Fleet;
  let image: string;

  before(async () => {
    fleet = await startFleet({ nodes: 2, labels: [{ zone: "a" }, { zone: "b" }] });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  void test("apply runs the replicas, spread over the nodes, and says the second time that nothing changed", async () => {
    const manifest = workloadManifest({
      name: "web",
      image,
      replicas: 2,
      args: ["sh", "-c", "echo up on $(hostname); exec sleep 1000"],
    });
    const first = await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], manifest);
    assert.match(first, /workload\/web created/);
    const tasks = await tasksOf(fleet, "web");
    assert.deepEqual(
      tasks.map((task) => task.status.phase),
      ["Running", "Running"],
    );
    assert.deepEqual(new Set(tasks.map((task) => task.spec.node)), new Set(["node-1", "node-2"]));
    assert.match(await fleet.berth(["apply", "-f", "-"], manifest), /workload\/web unchanged/);
  });

  void test("top shows what nodes and tasks use, asked of their agents", async () => {
    const [nodes, tasks, json] = await Promise.all([
      fleet.berth(["top", "nodes", "--interval", "500ms"]),
      fleet.berth(["-n", "demo", "top", "tasks", "--interval", "500ms", "--sort", "name"]),
      fleet.berth(["-n", "demo", "top", "tasks", "--interval", "500ms", "-o", "json"]),
    ]);
    assert.match(nodes, /^NAME +CPU +CPU% +MEMORY +MEMORY% +TASKS\nnode-\d +[\d.]+m?\/\d/);
    assert.equal(nodes.trimEnd().split("\n").length, 3);
    const names = (await tasksOf(fleet, "web")).map((task) => task.metadata.name).sort();
    assert.deepEqual(tasks.trimEnd().split("\n").slice(1).map((line) => line.split(" ")[0]), names); // prettier-ignore
    const usage = JSON.parse(json) as { tasks: { memoryBytes: string; pids: string }[]; unanswered: string[] };
    assert.ok(
      usage.tasks.length === 2 && usage.tasks.every((task) => Number(task.memoryBytes) > 0 && task.pids === "1"),
    );
    assert.deepEqual(usage.unanswered, []);
  });

  void test("logs prints what the containers wrote, of each task", async () => {
    const output = await eventually("the output of both", async () => {
      const text = await fleet.berth(["-n", "demo", "logs", "web"]);
      return text.split("\n").filter((line) => line.includes("up on")).length === 2 && text;
    });
    for (const task of await tasksOf(fleet, "web")) assert.match(output, new RegExp(`${task.metadata.name} up on`));
  });

  void test("exec passes input, output and the exit code on", async () => {
    const [task] = await tasksOf(fleet, "web");
    const name = task!.metadata.name;
    assert.equal(
      await fleet.berth(["-n", "demo", "exec", "-i", name, "--", "cat"], "through and back\n"),
      "through and back\n",
    );
    const failed = await fleet.cli("-n", "demo", "exec", name, "--", "sh", "-c", "echo oops >&2; exit 7");
    assert.equal(failed.code, 7);
    assert.equal(failed.stderr, "oops\n");
    const missing = await fleet.cli("-n", "demo", "exec", name, "--", "no-such-program");
    assert.notEqual(missing.code, 0);
    assert.match(missing.stderr, /no-such-program/);
  });

  void test("supervisors are in cgroups beside the agent's, so that nothing that ends its unit ends them", async () => {
    const cgroupOf = (pid: number): string[] =>
      readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().split("\n").map((line) => line.slice(line.lastIndexOf(":") + 1)); // prettier-ignore
    const [agent] = fleet.agents;
    const supervisors = agent!
      .processes()
      .filter(({ pid }) => readFileSync(`/proc/${pid}/comm`, "utf8") === "conmon\n");
    assert.ok(supervisors.length > 0, "no supervisor was found");
    const own = new Set(cgroupOf(agent!.pid!));
    for (const { pid } of supervisors) {
      const beside = cgroupOf(pid).filter((path) => path.startsWith(agent!.cgroupParent));
      assert.ok(beside.length > 0 && beside.every((path) => !own.has(path)), `${pid}: ${cgroupOf(pid).join(" ")}`);
      assert.ok([...own].every((path) => path === "/" || !cgroupOf(pid).some((each) => each.startsWith(`${path}/`))));
    }
  });

  void test("scale adds tasks, and takes them away again with all that they held", async () => {
    await fleet.berth(["-n", "demo", "scale", "web", "5", "--wait", "--timeout", "60s"]);
    assert.equal((await tasksOf(fleet, "web")).length, 5);
    await fleet.berth(["-n", "demo", "scale", "web", "1", "--wait", "--timeout", "60s"]);
    await eventually("one task", async () => (await tasksOf(fleet, "web")).length === 1, { timeoutMs: 30_000 });
  });

  void test("an update replaces the container in place, at its new generation", async () => {
    const manifest = workloadManifest({
      name: "web",
      image,
      replicas: 1,
      args: ["sh", "-c", "echo second; exec sleep 1000"],
    });
    assert.match(await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], manifest), /configured/);
    await eventually("the new container's output", async () =>
      /second/.test(await fleet.berth(["-n", "demo", "logs", "web"])),
    );
  });

  void test("a container that ends is started again by its policy, and its exit code is told", async () => {
    const once = workloadManifest({ name: "once", image, replicas: 1, args: ["sh", "-c", "exit 3"], restart: "never" });
    await fleet.berth(["apply", "-f", "-"], once);
    const failed = await eventually(
      "the failed task",
      async () => (await tasksOf(fleet, "once")).find((task) => task.status.phase === "Failed"),
      { timeoutMs: 30_000 },
    );
    assert.equal(failed.status.exitCode, 3);
    const again = workloadManifest({
      name: "again",
      image,
      replicas: 1,
      args: ["sh", "-c", "exit 1"],
      restart: "always",
    });
    await fleet.berth(["apply", "-f", "-"], again);
    await eventually("two restarts", async () => ((await tasksOf(fleet, "again"))[0]?.status.restarts ?? 0) >= 2, {
      timeoutMs: 30_000,
    });
    await fleet.berth(["-n", "demo", "delete", "workload", "once", "again", "--wait"]);
  });

  void test("a container beyond its memory limit is reported as killed for it", async () => {
    const hungry = workloadManifest({
      name: "hungry",
      image,
      replicas: 1,
      args: ["sh", "-c", "x=a; while true; do x=$x$x; done"],
      restart: "never",
      memory: "16Mi",
    });
    await fleet.berth(["apply", "-f", "-"], hungry);
    const task = await eventually(
      "the killed task",
      async () => (await tasksOf(fleet, "hungry")).find((each) => each.status.phase === "Failed"),
      { timeoutMs: 30_000 },
    );
    assert.equal(task.status.oomKilled, true);
    assert.equal(task.status.reason, "OOMKilled");
    await fleet.berth(["-n", "demo", "delete", "workload", "hungry", "--wait"]);
  });

  void test("pull brings an image to the nodes that a selector names", async () => {
    const result = await fleet.cli("-n", "demo", "pull", image, "--nodes", "zone=b", "--name", "warm");
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stdout, /campaign\/warm succeeded: 1 of 1/);
    assert.match(result.stderr, /node-2 .*succeeded/);
  });

  void test("events tell the whole story, and filters choose from it", async () => {
    const all = await fleet.berth(["-n", "demo", "events", "--tail", "500"]);
    for (const topic of ["/tasks/start", "/tasks/exit", "memory"])
      assert.ok(all.includes(topic), `${topic} is missing from:\n${all}`);
    const starts = await fleet.berth(["-n", "demo", "events", "--tail", "500", "--filter", 'topic=="/tasks/start"']);
    assert.ok(
      starts
        .trim()
        .split("\n")
        .slice(1)
        .every((line) => line.includes("/tasks/start")),
    );
  });

  void test("run --follow behaves like a foreground command, and --rm leaves nothing", async () => {
    const result = await fleet.cli(
      "-n",
      "demo",
      "run",
      "--name",
      "fg",
      "--follow",
      "--rm",
      image,
      "--",
      "sh",
      "-c",
      "echo hi; exit 5",
    );
    assert.equal(result.stdout, "hi\n");
    assert.equal(result.code, 5);
    assert.equal((await fleet.cli("-n", "demo", "get", "workload", "fg")).code, 3);
  });

  void test("delete takes everything away: mounts, cgroups, network namespaces, snapshots, directories, processes", async () => {
    await fleet.berth(["-n", "demo", "delete", "workload", "web", "--wait", "--timeout", "60s"]);
    assert.deepEqual(await tasksOf(fleet, "web"), []);
    for (const agent of fleet.agents) assert.deepEqual(await nodeLeftovers(agent), [], agent.name);
  });
});
