import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { test } from "node:test";
import { readLog } from "../log-reader.ts";
import type { CreateRequest } from "../runtime.ts";
import { eventually, logLines, makeRuntime } from "../testing/runtime-fixture.ts";

const NEVER = new AbortController().signal;

test("Runtime.openInput writes to the first process; once, its end is the end of the input", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const request = await fixture.run("cat", { command: ["cat"], input: "once" });
  {
    using input = await runtime.openInput(request);
    await input.write(Buffer.from("one\n"), NEVER);
    await input.write(Buffer.from("two\n"), NEVER);
  }
  const exit = await runtime.wait(request);
  assert.deepEqual([exit.kind === "exited" && exit.exitCode, await logLines(request)], [0, ["one", "two"]]);
});

test("Runtime.openInput leaves an open input open, and several may write after each other", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const request = await fixture.run("head", { command: ["head", "-n", "2"], input: "open" });
  for (const text of ["first\n", "second\n"]) {
    using input = await runtime.openInput(request);
    await input.write(Buffer.from(text), NEVER);
  }
  await runtime.wait(request);
  assert.deepEqual(await logLines(request), ["first", "second"]);
});

test("Runtime.openInput carries more than any buffer holds, whole", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const request = await fixture.run("wc", { command: ["sh", "-c", "head -c 1 >/dev/null; wc -c"], input: "once" });
  {
    using input = await runtime.openInput(request);
    await input.write(Buffer.alloc(5_000_001, "x"), NEVER);
  }
  await runtime.wait(request);
  // What head took beyond its byte went with it; nothing else may be missing.
  const [left = ""] = await logLines(request);
  assert.ok(Number(left) >= 5_000_000 - 65_536 && Number(left) <= 5_000_000, left);
});

test("Runtime.openInput ends a write that waits, with its signal", async () => {
  await using fixture = await makeRuntime();
  const request = await fixture.run("deaf", { command: ["sleep", "100000"], input: "open" });
  using input = await fixture.runtime.openInput(request);
  const abort = new AbortController();
  const writing = input.write(Buffer.alloc(20_000_000), abort.signal);
  abort.abort();
  await assert.rejects(writing, { name: "AbortError" });
});

test("Runtime.openInput never slows the container, though nobody reads what conmon sends there", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const request = await fixture.run("loud", { command: ["sh", "-c", "yes | head -c 20000000"], input: "open" });
  // Held open and never read: a client that only does this took a container's output to nothing.
  using input = await runtime.openInput(request);
  await input.write(Buffer.from("x"), NEVER);
  const exit = await runtime.wait(request);
  assert.equal(exit.kind, "exited");
  assert.ok(statSync(request.logPath).size > 20_000_000);
});

test("Runtime.resize sets the size of the first process' terminal", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
  const request = await fixture.run("tty", { command: ["sh", "-c", script], terminal: true, input: "open" });
  await eventually("it is ready", async () => (await textOf(request)).includes("ready"));
  await runtime.resize(request, 101, 37);
  await eventually("it has heard", async () => (await textOf(request)).includes("37 101"));
  using input = await runtime.openInput(request);
  await input.write(Buffer.from("\u0003"), NEVER);
  await runtime.wait(request);
});

test("readLog gives live pieces without waiting for the end of their line, from an offset on", async () => {
  await using fixture = await makeRuntime();
  const script = "echo before; read a; printf 'prompt> '; read b; echo \"$b!\"";
  const request = await fixture.run("prompt", { command: ["sh", "-c", script], input: "open" });
  await eventually("it has begun", async () => (await logLines(request)).includes("before"));
  using input = await fixture.runtime.openInput(request);
  const ended = new AbortController();
  const seen: string[] = [];
  const before = statSync(request.logPath).size;
  await input.write(Buffer.from("\n"), NEVER);
  const options = { live: true, follow: true, ended: ended.signal, fromOffset: before };
  for await (const { text } of readLog(request.logPath, options)) {
    seen.push(text.toString());
    if (seen.at(-1) === "prompt> ") await input.write(Buffer.from("yes\n"), NEVER);
    if (seen.at(-1) === "yes!\n") ended.abort();
  }
  assert.equal(seen.join(""), "prompt> yes!\n");
});

async function textOf(request: CreateRequest): Promise<string> {
  return (await logLines(request)).join("\n");
}
