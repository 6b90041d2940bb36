import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { LogLineParser } from "./log-lines.ts";
import { readLog, type ReadLogOptions } from "./log-reader.ts";
import { rotateLog } from "./log-rotate.ts";
import { eventually, logLines, makeRuntime } from "./testing/runtime-fixture.ts";

let second = 0;
function record(text: string, tag = "F", stream = "stdout"): string {
  second += 1;
  return `${new Date(second * 1000).toISOString()} ${stream} ${tag} ${text}\n`;
}

function scratchLog(): Disposable & { path: string } {
  const directory = mkdtempSync(join(tmpdir(), "berth-log-"));
  return { path: join(directory, "web.log"), [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

async function read(path: string, options: ReadLogOptions = {}): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLog(path, options)) lines.push(line.text.toString());
  return lines;
}

test("LogLineParser joins partial records per stream", () => {
  const parser = new LogLineParser();
  const bytes = Buffer.from(record("one ", "P") + record("err", "F", "stderr") + record("line") + record("", "F"));
  const lines = parser.push(bytes);
  assert.deepEqual(
    lines.map(({ stream, text, complete }) => [stream, text.toString(), complete]),
    [
      ["stderr", "err", true],
      ["stdout", "one line", true],
      ["stdout", "", true],
    ],
  );
  parser.push(Buffer.from(record("never ended", "P")));
  assert.deepEqual(
    parser.finish().map(({ text, complete }) => [text.toString(), complete]),
    [["never ended", false]],
  );
});

test("LogLineParser gives the same lines however the bytes are cut, and survives rubbish", () => {
  const text = fc.stringMatching(/^[^\n]{0,40}$/);
  const records = fc.array(fc.tuple(text, fc.constantFrom("P", "F"), fc.constantFrom("stdout", "stderr")));
  fc.assert(
    fc.property(records, fc.array(fc.nat(), { maxLength: 8 }), (given, cuts) => {
      const bytes = Buffer.from(
        `torn write\n${given.map(([line, tag, stream]) => record(line, tag, stream)).join("")}`,
      );
      const whole = new LogLineParser().push(bytes);
      const parser = new LogLineParser();
      const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
      const parts = edges.slice(1).flatMap((edge, index) => parser.push(bytes.subarray(edges[index], edge)));
      assert.deepEqual(parts, whole);
    }),
  );
});

test("readLog gives the last lines, also over block borders and rotated files", async () => {
  using log = scratchLog();
  assert.deepEqual(await read(log.path, { tail: 3 }), []);
  const text = (index: number): string => `${index}-${"x".repeat(index % 7 === 0 ? 90_000 : 50)}`;
  const all = Array.from({ length: 60 }, (_, index) => text(index));
  const bytes = all.map((line, index) =>
    index % 5 === 0 ? record(line.slice(0, 3), "P") + record(line.slice(3)) : record(line),
  );
  writeFileSync(`${log.path}.2`, bytes.slice(0, 20).join(""));
  writeFileSync(`${log.path}.1`, bytes.slice(20, 50).join(""));
  writeFileSync(log.path, bytes.slice(50).join(""));
  for (const tail of [0, 1, 2, 9, 10, 11, 39, 40, 41, 59, 60, 61, 1000]) {
    assert.deepEqual(await read(log.path, { tail }), tail === 0 ? [] : all.slice(-tail), `tail ${tail}`);
  }
  assert.deepEqual(await read(log.path), all.slice(50));
});

test("readLog leaves out what is older than since", async () => {
  using log = scratchLog();
  writeFileSync(log.path, record("old"));
  const sinceMs = second * 1000 + 500;
  appendFileSync(log.path, record("new"));
  assert.deepEqual(await read(log.path, { sinceMs }), ["new"]);
});

test("readLog follows through rotations without losing or repeating a line, until the writer has ended", async () => {
  using log = scratchLog();
  const ended = new AbortController();
  const lines: string[] = [];
  const following = (async () => {
    for await (const line of readLog(log.path, { follow: true, ended: ended.signal })) lines.push(line.text.toString());
  })();
  const wanted: string[] = [];
  const write = (text: string): void => {
    wanted.push(text);
    appendFileSync(log.path, record(text));
  };
  write("a");
  await eventually("a is read", () => lines.length === 1);
  // Two rotations before the follower may look: it must find the one in between.
  write("b");
  renameSync(log.path, `${log.path}.1`);
  write("c");
  renameSync(`${log.path}.1`, `${log.path}.2`);
  renameSync(log.path, `${log.path}.1`);
  write("d");
  await eventually("d is read", () => lines.includes("d"));
  write("e");
  ended.abort();
  await following;
  assert.deepEqual(lines, wanted);
});

test("readLog with tail and follow has no gap, and ends with its signal", async () => {
  using log = scratchLog();
  writeFileSync(log.path, record("1") + record("2") + record("3"));
  const stop = new AbortController();
  const lines: string[] = [];
  const following = (async () => {
    const options = { tail: 1, follow: true, signal: stop.signal };
    for await (const line of readLog(log.path, options)) {
      lines.push(line.text.toString());
      if (line.text.toString() === "4") stop.abort();
    }
  })();
  await eventually("3 is read", () => lines.length === 1);
  appendFileSync(log.path, record("4"));
  await assert.rejects(following, { code: "CANCELLED" });
  assert.deepEqual(lines, ["3", "4"]);
});

test("rotateLog lets conmon go on in a new file, and a follower sees every line once", async () => {
  await using fixture = await makeRuntime();
  const { runtime } = fixture;
  const script = "i=0; while [ ! -e /tmp/enough ]; do i=$((i+1)); echo $i; sleep 0.001; done; echo last $i";
  const request = await fixture.run("web", { command: ["sh", "-c", script] });
  const ended = new AbortController();
  const lines: string[] = [];
  const following = (async () => {
    for await (const line of readLog(request.logPath, { follow: true, ended: ended.signal }))
      lines.push(line.text.toString());
  })();
  for (let round = 1; round <= 6; round += 1) {
    const before = lines.length;
    await eventually("lines come", () => lines.length > before + 30);
    // Every other rotation follows at once, before the follower can have looked.
    if (round % 2 === 0) await rotateLog(request.logPath, { keep: 20, reopen: () => runtime.reopenLog(request) });
    await rotateLog(request.logPath, { keep: 20, reopen: () => runtime.reopenLog(request) });
    assert.ok(existsSync(`${request.logPath}.${round}`));
  }
  writeFileSync(join(fixture.scratch.rootfs, "tmp/enough"), "");
  await runtime.wait(request);
  ended.abort();
  await following;
  const count = lines.length - 1;
  assert.deepEqual(lines, [...Array.from({ length: count }, (_, index) => String(index + 1)), `last ${count}`]);
});

test("rotateLog keeps no more than asked for, and reopenLog says when nobody would hear", async () => {
  await using fixture = await makeRuntime();
  const request = await fixture.run("web", { command: ["sleep", "100000"] });
  const reopen = (): Promise<void> => fixture.runtime.reopenLog(request);
  for (let round = 0; round < 4; round += 1) await rotateLog(request.logPath, { keep: 2, reopen });
  const files = readdirSync(dirname(request.logPath)).sort();
  assert.deepEqual(files, ["web.log", "web.log.1", "web.log.2"]);
  await assert.rejects(rotateLog(request.logPath, { keep: 0, reopen }), { code: "INVALID_ARGUMENT" });
  await fixture.runtime.kill(request, "KILL");
  await fixture.runtime.wait(request);
  await eventually("reopenLog fails", () =>
    reopen().then(
      () => false,
      (error: { reason?: string }) => error.reason === "SUPERVISOR_GONE",
    ),
  );
});

test("logMaxBytes bounds the file: conmon starts over when it is full", async () => {
  await using fixture = await makeRuntime();
  const request = await fixture.prepare("web", { command: ["sh", "-c", "seq 1 5000; echo end"] });
  await fixture.runtime.create({ ...request, logMaxBytes: 20_000 });
  await fixture.runtime.start(request);
  await fixture.runtime.wait(request);
  const lines = await logLines(request);
  assert.ok(lines.length < 1000, `${lines.length} lines`);
  assert.equal(lines.at(-1), "end");
});
