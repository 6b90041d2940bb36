import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import { killProcess } from "@berth/linux";
import type { ContainerExit } from "../runtime.ts";
import { handleOf } from "../testing/rootfs.ts";
import {
  conmonPid,
  crunUnusable,
  eventually,
  initPid,
  logLines,
  makeRuntime,
  remains,
} from "../testing/runtime-fixture.ts";
import { createOciRuntime } from "./runtime.ts";

const FOREVER = ["sleep", "100000"];

function exited(exit: ContainerExit): { exitCode: number; oomKilled: boolean } {
  assert.equal(exit.kind, "exited", JSON.stringify(exit));
  return exit.kind === "exited" ? { exitCode: exit.exitCode, oomKilled: exit.oomKilled } : assert.fail();
}

for (const name of ["runc", "crun"]) {
  const unusable = name === "crun" ? crunUnusable() : undefined;
  test(`Runtime(${name}) runs a container from create to delete and leaves nothing`, async (context) => {
    if (unusable !== undefined) {
      context.skip(unusable);
      return;
    }
    await using fixture = await makeRuntime(name);
    const { runtime } = fixture;
    const request = await fixture.prepare("web", { command: ["sh", "-c", "echo hello; echo oops >&2; exit 3"] });
    const created = await runtime.create(request);
    assert.deepEqual(
      [created.status, created.pid > 0, (await runtime.state(request)).status],
      ["created", true, "created"],
    );
    const processes = [initPid(request), conmonPid(request)];
    await runtime.start(request);
    assert.deepEqual(exited(await runtime.wait(request)), { exitCode: 3, oomKilled: false });
    const state = await runtime.state(request);
    assert.deepEqual([state.status, state.exit?.kind], ["stopped", "exited"]);
    assert.deepEqual((await logLines(request)).sort(), ["hello", "oops"]);
    assert.deepEqual(await runtime.list(), [{ namespace: "test", id: "web", status: "stopped" }]);
    await runtime.delete(handleOf(request));
    assert.deepEqual(remains(request, processes), []);
    assert.deepEqual(await runtime.list(), []);
    await assert.rejects(runtime.state(request), { code: "NOT_FOUND" });
  });
}

test("Runtime.create, start, kill and delete may be repeated", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const request = await fixture.prepare("web", { command: FOREVER });
  const first = await runtime.create(request);
  assert.deepEqual(await runtime.create(request), first);
  await runtime.start(request);
  await runtime.start(request);
  assert.equal((await runtime.create(request)).status, "running");
  const processes = [initPid(request), conmonPid(request)];
  await runtime.kill(request, "KILL");
  assert.equal(exited(await runtime.wait(request)).exitCode, 137);
  await runtime.kill(request, "KILL");
  await runtime.kill(request, "TERM", { all: true });
  await runtime.start(request);
  await runtime.delete(request);
  await runtime.delete(request);
  assert.deepEqual(remains(request, processes), []);
});

test("Runtime.delete ends what runs, is paused, or was never started", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const running = await fixture.run("running", { command: FOREVER });
  const paused = await fixture.run("paused", { command: FOREVER });
  await runtime.pause(paused);
  await runtime.pause(paused);
  assert.equal((await runtime.state(paused)).status, "paused");
  await runtime.resume(paused);
  assert.equal((await runtime.state(paused)).status, "running");
  await runtime.pause(paused);
  const created = await fixture.prepare("created", { command: FOREVER });
  await runtime.create(created);
  for (const request of [running, paused, created]) {
    const processes = [initPid(request), conmonPid(request)];
    await runtime.delete(request);
    assert.deepEqual(remains(request, processes), [], request.id);
  }
});

test("Runtime.wait of a new agent tells an exit that happened while none was there", async () => {
  await using fixture = await makeRuntime();
  const go = join(fixture.scratch.rootfs, "tmp/go");
  const script = "while [ ! -e /tmp/go ]; do sleep 0.02; done; echo done; exit 42";
  const request = await fixture.prepare("web", { command: ["sh", "-c", script] });
  const child = join(import.meta.dirname, "../testing/agent-child.ts");
  const agent = spawn(process.execPath, [child, fixture.scratch.stateDir, JSON.stringify(request)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(agent.stdout, "data");
  agent.kill("SIGKILL");
  await once(agent, "exit");
  const conmon = conmonPid(request);
  assert.equal((await fixture.runtime.state(request)).status, "running");
  writeFileSync(go, "");
  await eventually("conmon ends", () => !existsSync(`/proc/${conmon}/exe`));
  await using restarted = await fixture.again();
  assert.equal(exited(await restarted.wait(request)).exitCode, 42);
  assert.deepEqual(await logLines(request), ["done"]);
});

test("Runtime takes over a container whose creator died before noting the processes", async () => {
  await using fixture = await makeRuntime();
  const request = await fixture.run("web", { command: FOREVER });
  const identity = join(request.bundle, "supervisor/identity.json");
  const before = readFileSync(identity, "utf8");
  rmSync(identity);
  await using restarted = await fixture.again();
  assert.equal((await restarted.state(request)).status, "running");
  assert.equal(readFileSync(identity, "utf8"), before);
});

test("Runtime.wait says unknown when the supervisor was killed, and delete ends what runs on", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const request = await fixture.run("web", { command: FOREVER });
  const waiting = runtime.wait(request);
  const processes = [initPid(request), conmonPid(request)];
  killProcess(processes[1]!, "SIGKILL");
  const exit = await waiting;
  assert.equal(exit.kind, "unknown");
  assert.match(exit.kind === "unknown" ? exit.reason : "", new RegExp(`process ${processes[0]} runs on`));
  const state = await runtime.state(request);
  assert.deepEqual([state.status, state.exit], ["running", exit]);
  await using restarted = await fixture.again();
  assert.deepEqual(await restarted.wait(request), exit);
  await runtime.kill(request, "SIGKILL");
  await eventually("it is stopped", async () => (await runtime.state(request)).status === "stopped");
  assert.deepEqual((await runtime.state(request)).exit, exit);
  await runtime.delete(request);
  assert.deepEqual(remains(request, processes), []);
});

test("Runtime.wait ends with its signal and with the runtime", async () => {
  await using fixture = await makeRuntime();
  const request = await fixture.run("web", { command: FOREVER });
  await assert.rejects(fixture.runtime.wait(request, AbortSignal.timeout(20)), { code: "DEADLINE_EXCEEDED" });
  const other = await fixture.again();
  const waiting = assert.rejects(other.wait(request), { code: "CANCELLED" });
  await other[Symbol.asyncDispose]();
  await waiting;
});

test("Runtime tells that the kernel killed a container for want of memory", async () => {
  await using fixture = await makeRuntime();
  const hog = ["sh", "-c", "x=0123456789abcdef; while true; do x=$x$x; done"];
  const request = await fixture.run("hog", { command: hog, resources: { memoryBytes: 16 * 1024 * 1024 } });
  assert.deepEqual(exited(await fixture.runtime.wait(request)), { exitCode: 137, oomKilled: true });
});

test("Runtime applies limits, and stats reads the group", async () => {
  await using fixture = await makeRuntime();
  const resources = { memoryBytes: 64 * 1024 * 1024, pids: 20, cpuShares: 512, cpuQuotaMicros: 50_000 };
  const request = await fixture.run("web", { command: FOREVER, resources });
  const v1 = (controller: string, file: string): string =>
    readFileSync(`/sys/fs/cgroup/${controller}${request.cgroupPath}/${file}`, "utf8").trim();
  const v2 = (file: string): string => v1("", file);
  if (existsSync("/sys/fs/cgroup/memory/memory.limit_in_bytes")) {
    const limits = ["memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.shares", "cpu/cpu.cfs_quota_us"];
    const values = limits.map((limit) => limit.split("/")).map(([controller, file]) => v1(controller!, file!));
    assert.deepEqual(values, ["67108864", "20", "512", "50000"]);
  } else {
    assert.deepEqual([v2("memory.max"), v2("pids.max"), v2("cpu.max")], ["67108864", "20", "50000 100000"]);
  }
  const stats = await fixture.runtime.stats(request);
  assert.ok(stats.memoryUsageBytes > 0 && stats.cpuUsageSeconds > 0 && stats.pids >= 1, JSON.stringify(stats));
});

test("Runtime runs ten containers at once", async () => {
  await using fixture = await makeRuntime();
  const codes = await Promise.all(
    Array.from({ length: 10 }, async (_, index) => {
      const request = await fixture.run(`web-${index}`, { command: ["sh", "-c", `exit ${index}`] });
      return exited(await fixture.runtime.wait(request)).exitCode;
    }),
  );
  assert.deepEqual(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("Runtime.create passes on the runtime's own words and leaves nothing", async () => {
  await using fixture = await makeRuntime();
  const missing = await fixture.prepare("missing", { command: ["/no/such/program"] });
  await assert.rejects(fixture.runtime.create(missing), (error) => {
    assert.ok(error instanceof StatusError);
    assert.deepEqual([error.code, error.reason], ["FAILED_PRECONDITION", "RUNTIME_FAILED"]);
    assert.match(error.message, /runc create: .*\/no\/such\/program.*no such file/);
    return true;
  });
  assert.deepEqual(remains(missing, []), []);
  assert.deepEqual(await fixture.runtime.list(), []);
});

test("Runtime.kill reaches every process of a container with all", async () => {
  await using fixture = await makeRuntime();
  const script = `trap "" TERM; (trap "echo child; exit 0" TERM; echo up; while true; do sleep 0.02; done) & wait; sleep 100000`;
  const request = await fixture.run("web", { command: ["sh", "-c", script] });
  await eventually("the child is up", async () => (await logLines(request)).includes("up"));
  await fixture.runtime.kill(request, "TERM");
  await fixture.runtime.kill(request, "TERM", { all: true });
  await eventually("the child heard it", async () => (await logLines(request)).includes("child"));
  assert.equal((await fixture.runtime.state(request)).status, "running");
});

test("createOciRuntime says what to install", async () => {
  const options = { name: "runc", binary: "/nonexistent/runc", conmonPath: "/usr/bin/conmon", stateDir: "/tmp/none" };
  const missing = (pattern: RegExp) => (error: unknown) =>
    error instanceof StatusError && error.reason === "RUNTIME_MISSING" && pattern.test(error.message);
  await assert.rejects(createOciRuntime({}, options), missing(/nonexistent\/runc cannot be run.*apt install runc/));
  const noConmon = { ...options, binary: "/usr/sbin/runc", conmonPath: "/nonexistent/conmon" };
  await assert.rejects(createOciRuntime({}, noConmon), missing(/apt install conmon/));
  await assert.rejects(createOciRuntime({}, { ...options, binary: "/bin/busybox" }), { reason: "RUNTIME_UNKNOWN" });
});
