/** The agent as a process, against real servers, images and containers: a task from its job to its removal. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerSpecSchema, StreamExecSchema, StreamLogsSchema } from "@berth/proto";
import { eventually } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "./testing/agent-lab.ts";

describe("agent", () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab();
  });
  after(() => lab[Symbol.asyncDispose]());

  const shell = (script: string, extra: object = {}) =>
    create(ContainerSpecSchema, {
      image: lab.image,
      command: ["/bin/sh", "-c", script],
      mounts: [{ type: "bind", source: lab.shared, target: "/shared" }],
      ...extra,
    });
  const seen = (uid: string, step: string) =>
    eventually(`${uid} is ${step}`, () => lab.controller.stepNames(uid).includes(step), { timeoutMs: 20_000 });

  test("agent runs a task to its exit, with log and code, and leaves nothing of it once removed", async () => {
    const { controller } = lab;
    const task = await controller.run({
      taskUid: "t-exit",
      name: "web-0",
      container: shell("echo started >> /shared/t-exit; echo hello from $(hostname); exit 3"),
    });
    await seen("t-exit", "exited");
    assert.deepEqual(controller.stepNames("t-exit"), ["accepted", "pulling", "creating", "started", "exited"]);
    const exited = controller.stepsOf("t-exit").at(-1);
    assert.deepEqual([exited?.exitCode, exited?.reason], [3, "Error"]);
    const started = controller.stepsOf("t-exit").find(({ step }) => step === "started");
    assert.match(started?.addresses.join() ?? "", /^\d+\.\d+\.\d+\.\d+/);
    assert.match(started?.imageDigest ?? "", /^sha256:/);
    assert.deepEqual(lab.lines("t-exit"), ["started"]);
    const { output } = await controller.stream({ logs: create(StreamLogsSchema, { taskUid: "t-exit", follow: true }) });
    assert.equal(output, "hello from web-0\n");
    await controller.stop(task);
    await seen("t-exit", "removed");
    assert.deepEqual(lab.leftovers(), []);
  });

  test("agent runs commands in a task, follows its log, and stops it by its signal", async () => {
    const { controller } = lab;
    const task = await controller.run({
      taskUid: "t-stop",
      name: "web-1",
      container: shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 1 & wait $!; done"),
    });
    await seen("t-stop", "started");
    const open = {
      namespace: "shop",
      name: "web-1",
      command: ["/bin/sh", "-c", "cat; echo err >&2; exit 5"],
      stdin: true,
    };
    const result = await controller.stream(
      { exec: create(StreamExecSchema, { taskUid: "t-stop", open }) },
      "to stdin\n",
    );
    assert.deepEqual(
      [result.output.includes("to stdin\n"), result.output.includes("err\n"), result.exitCode],
      [true, true, 5],
    );
    const following = controller.stream({ logs: create(StreamLogsSchema, { taskUid: "t-stop", follow: true }) });
    const metrics = await (await fetch(`http://${lab.agent.host.address}:1338/metrics`)).text();
    assert.match(metrics, /container_memory_usage_bytes\{namespace="shop",id="t-stop",name="web-1"\} [1-9]/);
    assert.match(
      metrics,
      /container_processes\{namespace="shop",id="t-stop",name="web-1"\} [1-9]/,
      "at the first scrape",
    );
    assert.match(metrics, /container_runtime_operations_total\{operation_type="start_container"\} [1-9]/);
    assert.match(metrics, /containerd_build_info_total\{version="[^"]+",revision="berth"\} 1/);
    assert.match(metrics, /containerd_cri_container_start_seconds_count [1-9]/);
    assert.match(metrics, /containerd_cri_sandboxed_image_pulls_total\{status="success"\} [1-9]/);
    await controller.stop(task);
    await seen("t-stop", "removed");
    assert.deepEqual(controller.stepNames("t-stop").slice(-4), ["started", "stopping", "stopped", "removed"]);
    assert.equal(controller.stepsOf("t-stop").find(({ step }) => step === "stopped")?.exitCode, 0);
    assert.equal((await following).output, "up\nbye\n");
    assert.deepEqual(lab.leftovers(), []);
  });

  test("agent works on while the brokers are away, ends in time then, and tells of everything once they are back", async () => {
    const { controller } = lab;
    const task = await controller.run({
      taskUid: "t-away",
      name: "web-2",
      container: shell("while [ ! -e /shared/go-away ]; do sleep 0.1; done; exit 9"),
    });
    await seen("t-away", "started");
    await lab.redis.stop();
    await lab.nats.stop();
    const supervised = lab.agent.processes().length;
    lab.touch("go-away");
    await eventually("the container has ended", () => lab.agent.processes().length < supervised);
    const asked = Date.now();
    await lab.agent.stop();
    assert.ok(Date.now() - asked < 10_000, `it took ${Date.now() - asked} ms to end`);
    assert.match(readFileSync(lab.agent.logFile, "utf8"), /"msg":"ended"/);
    await lab.agent.start();
    await lab.redis.start();
    await lab.nats.start();
    await seen("t-away", "exited");
    assert.equal(controller.stepsOf("t-away").at(-1)?.exitCode, 9);
    await controller.stop(task, false);
    await seen("t-away", "removed");
  });
});
