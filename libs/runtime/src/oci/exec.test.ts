import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import type { ExecProcess, ExecRequest } from "../runtime.ts";
import { eventually, initPid, makeRuntime, type RuntimeFixture } from "../testing/runtime-fixture.ts";
import { resizeTerminalOf } from "./terminal.ts";

async function withContainer(
  body: (
    exec: (request: Partial<ExecRequest> & Pick<ExecRequest, "args">) => Promise<ExecProcess>,
    pid: number,
    fixture: RuntimeFixture,
  ) => Promise<void>,
): Promise<void> {
  await using fixture = await makeRuntime();
  const container = { command: ["sleep", "100000"], env: [{ name: "COLOUR", value: "blue" }], workingDir: "/tmp" };
  const request = await fixture.run("web", container);
  await body((exec) => fixture.runtime.exec(request, { terminal: false, ...exec }), initPid(request), fixture);
}

interface Finished {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

async function finish(process: ExecProcess): Promise<Finished> {
  const [stdout, stderr, code] = await Promise.all([text(process.stdout), text(process.stderr), process.exitCode]);
  return { stdout, stderr, code };
}

/** Reads until the text so far matches. */
async function seen(stream: NodeJS.ReadableStream, output: { text: string }, pattern: RegExp): Promise<void> {
  while (!pattern.test(output.text)) await once(stream, "data", { signal: AbortSignal.timeout(10_000) });
}

/** The host's pid of `sh -c SCRIPT` in a container; waits until the runtime has become it. */
function inContainer(script: string): number {
  for (;;) {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        if (readFileSync(`/proc/${pid}/cmdline`, "utf8") === `sh\0-c\0${script}\0`) return Number(pid);
      } catch {
        // ended meanwhile
      }
    }
  }
}

function gather(stream: NodeJS.ReadableStream): { text: string } {
  const output = { text: "" };
  stream.on("data", (chunk: Buffer) => (output.text += chunk.toString()));
  return output;
}

test("Runtime.exec keeps stdout and stderr apart and gives the exit code", () =>
  withContainer(async (exec) => {
    await using process = await exec({ args: ["sh", "-c", "echo out; echo err >&2; exit 5"] });
    assert.deepEqual(await finish(process), { stdout: "out\n", stderr: "err\n", code: 5 });
    await using killed = await exec({ args: ["sh", "-c", "kill -9 $$"] });
    assert.equal((await finish(killed)).code, 137);
  }));

test("Runtime.exec has the container's environment, directory and user, changed as asked", () =>
  withContainer(async (exec) => {
    await using plain = await exec({ args: ["sh", "-c", "echo $COLOUR $(pwd) $(id -u)"] });
    assert.equal((await finish(plain)).stdout, "blue /tmp 0\n");
    const changes = { env: ["COLOUR=red"], cwd: "/etc", user: "web" };
    await using changed = await exec({
      args: ["sh", "-c", "echo $COLOUR $(pwd) $(id -u):$(id -g) $(id -G)"],
      ...changes,
    });
    assert.equal((await finish(changed)).stdout, "red /etc 1000:1000 1000 50\n");
  }));

test("Runtime.exec loses nothing of 10 MB, whenever it is read", () =>
  withContainer(async (exec) => {
    await using process = await exec({ args: ["sh", "-c", "dd if=/dev/zero bs=1M count=10 2>/dev/null; echo end"] });
    let size = 0;
    for await (const chunk of process.stdout) size += chunk.length;
    assert.deepEqual([size, await process.exitCode], [10 * 1024 * 1024 + 4, 0]);
    await using early = await exec({ args: ["echo", "late"] });
    assert.equal(await early.exitCode, 0);
    assert.equal(await text(early.stdout), "late\n");
  }));

test("Runtime.exec passes stdin on, and its end", () =>
  withContainer(async (exec) => {
    await using process = await exec({ args: ["sh", "-c", "cat; echo after"] });
    const payload = "x".repeat(1_000_000);
    process.stdin.end(payload);
    assert.deepEqual(await finish(process), { stdout: `${payload}after\n`, stderr: "", code: 0 });
  }));

test("Runtime.exec gives 127 and 126 with the reason for what cannot be started", () =>
  withContainer(async (exec) => {
    await using missing = await exec({ args: ["no-such-command"] });
    const first = await finish(missing);
    assert.equal(first.code, 127);
    assert.match(first.stderr, /no-such-command.*not found/);
    await using noProgram = await exec({ args: ["/etc/secret"], terminal: true });
    const second = await finish(noProgram);
    assert.equal(second.code, 126);
    assert.match(second.stdout, /permission denied/);
    // The command's own 255 is no failure of the runtime.
    await using own = await exec({ args: ["sh", "-c", "exit 255"] });
    assert.equal((await finish(own)).code, 255);
  }));

test("Runtime.exec with a terminal talks to a shell and follows the window's size", () =>
  withContainer(async (exec) => {
    await using process = await exec({ args: ["sh"], terminal: true, columns: 100, rows: 30 });
    const output = gather(process.stdout);
    process.stdin.write("stty size\n");
    await seen(process.stdout, output, /30 100\r\n/);
    process.resize(120, 40);
    process.stdin.write("sleep 0.05; while [ \"$(stty size)\" != '40 120' ]; do sleep 0.02; done; echo re''sized\n");
    await seen(process.stdout, output, /resized/);
    process.stdin.write("exit 9\n");
    assert.equal(await process.exitCode, 9);
    assert.equal(await text(process.stderr), "");
  }));

test("resizeTerminalOf resizes the terminal of a process, and touches nothing else", () =>
  withContainer(async (exec) => {
    const script = "echo $$; while [ \"$(stty size)\" != '50 132' ]; do sleep 0.02; done; echo re''sized";
    await using process = await exec({ args: ["sh", "-c", script], terminal: true });
    const output = gather(process.stdout);
    await seen(process.stdout, output, /\d+/);
    resizeTerminalOf(inContainer(script), { columns: 132, rows: 50 });
    await seen(process.stdout, output, /resized/);
    await using plain = await exec({ args: ["sh", "-c", "cat; true"] });
    resizeTerminalOf(inContainer("cat; true"), { columns: 1, rows: 1 });
    plain.stdin.end("still here");
    assert.equal((await finish(plain)).stdout, "still here");
    resizeTerminalOf(2 ** 22, { columns: 1, rows: 1 });
  }));

test("Runtime.exec with a terminal echoes what is typed once: our own terminal is raw", () =>
  withContainer(async (exec) => {
    await using process = await exec({ args: ["cat"], terminal: true });
    process.stdin.end("typed\n");
    assert.equal((await finish(process)).stdout, "typed\r\ntyped\r\n");
  }));

test("Runtime.exec with a terminal ends its input by the end-of-file character and loses no output", () =>
  withContainer(async (exec) => {
    await using process = await exec({ args: ["sh", "-c", "cat > /dev/null; seq 1 20000"], terminal: true });
    process.stdin.end("typed\n");
    const { stdout, code } = await finish(process);
    assert.equal(code, 0);
    assert.ok(stdout.endsWith("19999\r\n20000\r\n"), stdout.slice(-40));
  }));

test("ExecProcess ends in the container when it is disposed", () =>
  withContainer(async (exec, pid, fixture) => {
    for (const terminal of [false, true]) {
      const process = await exec({ args: ["sh", "-c", "echo up; sleep 77777"], terminal });
      await once(process.stdout, "data");
      await process[Symbol.asyncDispose]();
      assert.equal(await process.exitCode, 137);
    }
    const [request] = await fixture.runtime.list();
    assert.equal(request?.status, "running");
    assert.ok(pid > 0);
    await using ps = await exec({ args: ["ps", "-o", "args"] });
    const { stdout } = await finish(ps);
    assert.doesNotMatch(stdout, /sh -c echo up/);
  }));

test("Runtime.exec refuses a container that does not run, and bad requests", async () => {
  await using fixture = await makeRuntime();
  const request = await fixture.run("web", { command: ["true"] });
  await fixture.runtime.wait(request);
  const exec = (more: Partial<ExecRequest>): Promise<ExecProcess> =>
    fixture.runtime.exec(request, { args: ["true"], terminal: false, ...more });
  await assert.rejects(exec({}), { code: "FAILED_PRECONDITION", reason: "CONTAINER_NOT_RUNNING" });
  const running = await fixture.run("running", { command: ["sleep", "100000"] });
  const bad = (more: Partial<ExecRequest>, field: string): Promise<void> =>
    assert.rejects(fixture.runtime.exec(running, { args: ["true"], terminal: false, ...more }), (error) => {
      assert.ok(error instanceof StatusError);
      assert.deepEqual(
        error.violations.map((violation) => violation.field),
        [field],
      );
      return true;
    });
  await bad({ args: [] }, "args");
  await bad({ cwd: "tmp" }, "cwd");
  await bad({ user: "nobody-here" }, "user");
  await eventually("no exec directory is left", () => {
    return !readdirSync(`${running.bundle}/supervisor`).some((name) => name.startsWith("exec-"));
  });
});
