/**
 * A real agent with real containers and a controller that falls silent: what is fenced ends within its bound, with and without
 * the agent, what is not goes on, and the journal says so afterwards (flow C).
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerSpecSchema, type ContainerSpec, type TaskChanged } from "@berth/proto";
import { boottimeMs } from "@berth/linux";
import { eventually } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "../testing/agent-lab.ts";

/** As the fake controller grants it. */
const TTL_MS = 2_000;

describe("fence", () => {
  let lab: AgentLab;
  before(async () => {
    lab = await startAgentLab();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Writes CLOCK_BOOTTIME again and again, for as long as it runs. */
  const beating = (name: string, onTerm = "exit 0"): ContainerSpec =>
    create(ContainerSpecSchema, {
      image: lab.image,
      command: [
        "/bin/sh",
        "-c",
        `trap '${onTerm}' TERM; while :; do cat /proc/uptime >> /shared/${name}; sleep 0.05; done`,
      ],
      mounts: [{ type: "bind", source: lab.shared, target: "/shared" }],
      stop: { grace: { seconds: 0n, nanos: 500_000_000 } },
    });
  const run = (name: string, fence: boolean, onTerm?: string) =>
    lab.controller.run({ taskUid: name, name, fence, container: beating(name, onTerm) });
  const seen = (uid: string, step: string) =>
    eventually(`${uid} is ${step}`, () => lab.controller.stepNames(uid).includes(step), { timeoutMs: 30_000 });
  const lastBeatMs = (name: string): number => Number(lab.lines(name).at(-1)?.split(" ")[0]) * 1_000;
  /** Resolves when it has written nothing for a while. */
  const still = (name: string) =>
    eventually(`${name} is still`, () => boottimeMs() - lastBeatMs(name) > 1_000, { timeoutMs: 15_000 });
  const fencedStep = (uid: string): TaskChanged | undefined =>
    lab.controller.stepsOf(uid).find(({ step, reason }) => step === "stopped" && reason === "Fenced");

  test("a fenced container ends when the lease has run out, also one that ignores its signal; others go on; the journal tells", async () => {
    await run("polite", true);
    await run("stubborn", true, "");
    await run("free", false);
    for (const name of ["polite", "stubborn", "free"]) await seen(name, "started");
    lab.controller.answering = false;
    const silentMs = boottimeMs();
    await Promise.all([still("polite"), still("stubborn")]);
    // Sent at the latest when it fell silent; then the grace, a second at the most between two looks, and some room.
    for (const name of ["polite", "stubborn"]) {
      const ranMs = lastBeatMs(name) - silentMs;
      assert.ok(ranMs < TTL_MS + 500 + 2_500, `${name} ran on for ${ranMs} ms`);
    }
    assert.ok(boottimeMs() - lastBeatMs("free") < 1_000, "what is not fenced goes on");
    // A task that needs the lease waits for it, and holds nobody else up.
    lab.controller.answering = true;
    await seen("polite", "stopped");
    await seen("stubborn", "stopped");
    assert.match(fencedStep("polite")!.message, /stopper ended it .* after the node's lease had run out/);
    assert.equal(fencedStep("polite")!.exitCode, 0);
    assert.equal(fencedStep("stubborn")!.exitCode, 137);
    assert.equal(lab.controller.stepNames("polite").includes("exited"), false);
    assert.equal(lab.controller.leases.at(-1)?.conditions.find(({ type }) => type === "Stopper")?.status, "True");
  });

  test("a fenced container ends although the agent was killed; the next agent journals it, and starts nothing without a lease", async () => {
    await run("orphan", true);
    await seen("orphan", "started");
    await lab.agent.kill();
    await still("orphan");
    lab.controller.answering = false;
    const late = await run("late", true);
    const plain = await run("plain", false);
    await lab.agent.start();
    await eventually("what needs no lease runs", () => lab.lines("plain").length > 0, { timeoutMs: 20_000 });
    assert.deepEqual(lab.lines("late"), [], "no lease, no start");
    lab.controller.answering = true;
    await seen("late", "started");
    await seen("orphan", "stopped");
    assert.ok(fencedStep("orphan"));
    for (const task of [late, plain]) await lab.controller.stop(task);
  });

  test("the stopper outlives the agent, in a cgroup of its own, and is found again", async () => {
    const pidFile = join(lab.agent.state, "stopper", "pid");
    const pid = (): number => Number(readFileSync(pidFile, "utf8"));
    await run("lasting", true);
    await seen("lasting", "started");
    const before = pid();
    await lab.agent.kill();
    await lab.agent.start();
    assert.equal(pid(), before);
    assert.match(readFileSync(`/proc/${before}/cgroup`, "utf8"), /_stopper$/m);
    process.kill(before, "SIGKILL");
    await eventually("another one runs", () => pid() !== before && pid() > 0, { timeoutMs: 10_000 });
    lab.controller.answering = false;
    await still("lasting");
    lab.controller.answering = true;
    await seen("lasting", "stopped");
  });
});
