/**
 * kill -9 of the agent at every failpoint, and at no particular place: the task runs exactly once, what happened meanwhile
 * is reported, and nothing is left (D2, D4, A1, A6).
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { ContainerSpecSchema, type ContainerSpec } from "@berth/proto";
import { eventually } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "./testing/agent-lab.ts";

const FAILPOINTS = [
  "engine.after-intent",
  "engine.after-image",
  "engine.after-snapshot",
  "engine.after-bundle",
  "engine.after-rootfs",
  "engine.after-network",
  "engine.after-spec",
  "engine.after-create",
  "engine.after-start",
  "journal.before-publish",
];

describe("agent killed", () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab({ start: false });
  });
  after(() => lab[Symbol.asyncDispose]());

  const shell = (script: string): ContainerSpec =>
    create(ContainerSpecSchema, {
      image: lab.image,
      command: ["/bin/sh", "-c", script],
      mounts: [{ type: "bind", source: lab.shared, target: "/shared" }],
      stop: { grace: { seconds: 0n, nanos: 0 } },
    });
  const seen = (uid: string, step: string) =>
    eventually(`${uid} is ${step}`, () => lab.controller.stepNames(uid).includes(step), { timeoutMs: 30_000 });
  const startsOf = (uid: string): number => lab.controller.stepNames(uid).filter((step) => step === "started").length;

  for (const failpoint of FAILPOINTS) {
    test(`at ${failpoint} runs its task exactly once after the restart`, async () => {
      const uid = `t-${failpoint.replaceAll(".", "-")}`;
      // Rung before the start: the agent may die as soon as it is up.
      const task = await lab.controller.run({
        taskUid: uid,
        name: uid,
        container: shell(`echo run >> /shared/${uid}; exec sleep 1000`),
      });
      await lab.agent.start(failpoint).catch(() => {});
      assert.ok(await lab.agent.ended(20_000), `the agent did not reach ${failpoint}`);
      await lab.agent.start();
      await seen(uid, "started");
      await eventually("the task's own trace", () => lab.lines(uid).length > 0);
      await lab.controller.stop(task);
      await seen(uid, "removed");
      assert.deepEqual([lab.lines(uid), startsOf(uid)], [["run"], 1]);
      assert.deepEqual(lab.leftovers(), []);
      await lab.agent.kill();
      await lab.agent.ended(5_000);
    });
  }

  test("between a container's start and its record, and not wanted any more: it has started, and is stopped with its grace", async () => {
    const { controller } = lab;
    const script =
      "trap 'echo asked >> /shared/t-unwanted; exit 0' TERM; echo run >> /shared/t-unwanted; while :; do sleep 0.1; done";
    const container = shell(script);
    container.stop!.grace = create(DurationSchema, { seconds: 20n });
    const task = await controller.run({ taskUid: "t-unwanted", name: "unwanted", container });
    await lab.agent.start("engine.after-start").catch(() => {});
    assert.ok(await lab.agent.ended(20_000));
    await eventually("it runs", () => lab.lines("t-unwanted").length > 0);
    await controller.stop(task);
    await lab.agent.start();
    await seen("t-unwanted", "removed");
    assert.deepEqual(lab.lines("t-unwanted"), ["run", "asked"]);
    const steps = controller.stepNames("t-unwanted");
    assert.deepEqual(steps.slice(steps.indexOf("started")), ["started", "stopping", "stopped", "removed"]);
    assert.deepEqual(lab.leftovers(), []);
    await lab.agent.kill();
    await lab.agent.ended(5_000);
  });

  test("while its containers run: they go on, and the exit meanwhile is reported with its code", async () => {
    await lab.agent.start();
    const { controller } = lab;
    const short = await controller.run({
      taskUid: "t-short",
      name: "short",
      container: shell("echo run >> /shared/t-short; while [ ! -e /shared/go ]; do sleep 0.1; done; exit 42"),
    });
    const long = await controller.run({
      taskUid: "t-long",
      name: "long",
      container: shell("echo run >> /shared/t-long; exec sleep 1000"),
    });
    await Promise.all([seen("t-short", "started"), seen("t-long", "started")]);
    await lab.agent.kill();
    assert.ok(await lab.agent.ended(5_000));
    const before = lab.agent.processes().length;
    await eventually("short has ended", () => {
      lab.touch("go");
      return lab.agent.processes().length < before;
    });
    await lab.agent.start();
    await seen("t-short", "exited");
    assert.equal(controller.stepsOf("t-short").at(-1)?.exitCode, 42);
    assert.deepEqual(controller.stepNames("t-long"), ["accepted", "creating", "started"]);
    assert.deepEqual([lab.lines("t-short"), lab.lines("t-long")], [["run"], ["run"]]);
    await Promise.all([controller.stop(short), controller.stop(long)]);
    await Promise.all([seen("t-short", "removed"), seen("t-long", "removed")]);
    assert.deepEqual(lab.leftovers(), []);
  });

  test("and its supervisor, too: the exit is reported as unknown", async () => {
    const { controller } = lab;
    const task = await controller.run({ taskUid: "t-orphan", name: "orphan", container: shell("exec sleep 1000") });
    await seen("t-orphan", "started");
    await lab.agent.kill();
    await lab.agent.ended(5_000);
    lab.killSupervisors();
    await lab.agent.start();
    await seen("t-orphan", "exited");
    const exited = controller.stepsOf("t-orphan").at(-1);
    assert.deepEqual([exited?.exitUnknown, exited?.reason, exited?.exitCode], [true, "ExitUnknown", undefined]);
    await controller.stop(task);
    await seen("t-orphan", "removed");
    assert.deepEqual(lab.leftovers(), []);
  });

  test("SIGTERM leaves containers running, and the next agent takes them up", async () => {
    const { controller } = lab;
    const task = await controller.run({
      taskUid: "t-term",
      name: "term",
      container: shell("echo run >> /shared/t-term; exec sleep 1000"),
    });
    await seen("t-term", "started");
    await lab.agent.stop();
    assert.ok(lab.agent.processes().length > 0);
    await lab.agent.start();
    await controller.stop(task);
    await seen("t-term", "removed");
    assert.deepEqual(
      [lab.lines("t-term"), controller.stepNames("t-term").slice(-2)],
      [["run"], ["stopped", "removed"]],
    );
    assert.deepEqual(lab.leftovers(), []);
  });
});
