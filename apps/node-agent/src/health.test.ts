/**
 * Probes of real containers, by a real agent: commands, HTTP and TCP from inside the container's network; what is told is told
 * once, over a kill -9 of the agent too (D4, A1), and a container that fails its probes or its deadline ends as failed.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerSpecSchema, type ContainerSpec } from "@berth/proto";
import { eventually } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "./testing/agent-lab.ts";

describe("agent asking probes", { timeout: 180_000 }, () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab();
  });
  after(() => lab[Symbol.asyncDispose]());

  const seconds = (value: number) => ({ seconds: BigInt(Math.floor(value)), nanos: Math.round((value % 1) * 1e9) });
  const often = { interval: seconds(0.2), failureThreshold: 2, timeout: seconds(2) };
  const shell = (script: string, extra: object = {}): ContainerSpec =>
    create(ContainerSpecSchema, {
      image: lab.image,
      command: ["/bin/sh", "-c", script],
      mounts: [{ type: "bind", source: lab.shared, target: "/shared" }],
      stop: { grace: { seconds: 0n, nanos: 0 } },
      network: { mode: "none" },
      ...extra,
    });
  const told = (uid: string): string[] =>
    lab.controller.stepsOf(uid).map(({ step, health }) => (health === "" ? step : `${step}:${health}`));
  const seen = (uid: string, what: string, times = 1) =>
    eventually(
      `${uid} is ${what}, not ${told(uid).join(" ")}`,
      () => told(uid).filter((each) => each === what).length >= times,
      { timeoutMs: 20_000 },
    );
  const untouch = (file: string): void => rmSync(join(lab.shared, file));

  test("a readiness probe by HTTP, from inside the container's network, follows what the server answers", async () => {
    const uid = "web";
    const container = shell("exec /bin/busybox httpd -f -p 127.0.0.1:8080 -h /shared", {
      health: { readiness: { http: { port: 8080, path: "/ready" }, ...often } },
    });
    const task = await lab.controller.run({ taskUid: uid, name: uid, container });
    await seen(uid, "started:starting");
    await seen(uid, "health:unhealthy");
    assert.match(lab.controller.stepsOf(uid).at(-1)!.message, /readiness probe failed: HTTP status 404/);
    lab.touch("ready");
    await seen(uid, "health:healthy");
    untouch("ready");
    await seen(uid, "health:unhealthy", 2);
    await lab.controller.stop(task);
    await seen(uid, "removed");
    assert.deepEqual(lab.leftovers(), []);
  });

  test("a kill -9 of the agent loses no health and repeats none; what changed meanwhile is told after the restart", async () => {
    const uid = "kept";
    lab.touch("well");
    const container = shell("exec sleep 1000", {
      health: { readiness: { exec: { command: ["/bin/sh", "-c", "test -e /shared/well"] }, ...often } },
    });
    const task = await lab.controller.run({ taskUid: uid, name: uid, container });
    await seen(uid, "health:healthy");
    await lab.agent.kill();
    assert.ok(await lab.agent.ended(5_000));
    await lab.agent.start();
    untouch("well");
    await seen(uid, "health:unhealthy");
    assert.deepEqual(
      told(uid).filter((each) => each.startsWith("health")),
      ["health:healthy", "health:unhealthy"],
    );
    await lab.controller.stop(task);
    await seen(uid, "removed");
  });

  test("a liveness probe by TCP that fails ends the container as failed, and says why", async () => {
    const uid = "dead";
    const script = "/bin/busybox httpd -f -p 127.0.0.1:9000 -h / & pid=$!; while test ! -e /shared/hang; do sleep 0.1; done; kill $pid; trap '' TERM; while :; do sleep 1; done"; // prettier-ignore
    const container = shell(script, {
      health: {
        startup: { tcp: { port: 9000 }, ...often, failureThreshold: 50 },
        liveness: { tcp: { port: 9000 }, ...often },
      },
    });
    const task = await lab.controller.run({ taskUid: uid, name: uid, container });
    await seen(uid, "health:healthy");
    lab.touch("hang");
    await seen(uid, "failed");
    const { reason, message, exitCode } = lab.controller.stepsOf(uid).at(-1)!;
    assert.deepEqual([reason, exitCode], ["LivenessFailed", 137]);
    assert.match(message, /liveness probe failed: .*ECONNREFUSED/);
    await lab.controller.stop(task);
    await seen(uid, "removed");
  });

  test("a container that runs past its deadline ends as failed, though the agent was killed in between", async () => {
    const uid = "late";
    const container = shell("exec sleep 1000", { activeDeadline: seconds(2) });
    const task = await lab.controller.run({ taskUid: uid, name: uid, container });
    await seen(uid, "started");
    await lab.agent.kill();
    assert.ok(await lab.agent.ended(5_000));
    await lab.agent.start();
    await seen(uid, "failed");
    assert.equal(lab.controller.stepsOf(uid).at(-1)!.reason, "DeadlineExceeded");
    await lab.controller.stop(task);
    await seen(uid, "removed");
    assert.deepEqual(lab.leftovers(), []);
  });
});
