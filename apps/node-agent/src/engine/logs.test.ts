import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { hasCode, ManualClock } from "@berth/base";
import { findLog, keepLatestLogs, LogReaders } from "./logs.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "berth-logs-"));
});
afterEach(() => rm(directory, { recursive: true }));

const write = async (...names: string[]): Promise<void> => {
  for (const name of names) await writeFile(join(directory, name), name);
};

test("keepLatestLogs keeps the current log and the last one before it, rotated files included", async () => {
  await write("1-1.log", "1-2.log", "1-10.log", "1-10.log.1", "2-1.log", "notes.txt");
  await keepLatestLogs(directory, { taskUid: "t", generation: 2, attempt: 1 });
  assert.deepEqual((await readdir(directory)).sort(), ["1-10.log", "1-10.log.1", "2-1.log", "notes.txt"]);
});

test("findLog gives the newest log, or the one before, or says that there is none", async () => {
  await write("1-9.log", "1-10.log", "1-10.log.1");
  assert.equal(basename(await findLog(directory, "t", false)), "1-10.log");
  assert.equal(basename(await findLog(directory, "t", true)), "1-9.log");
  await rm(join(directory, "1-9.log"));
  await assert.rejects(findLog(directory, "t", true), (error) => hasCode(error, "NOT_FOUND"));
});

test("LogReaders.done waits for the last reader, but not for ever", async () => {
  const clock = new ManualClock();
  const readers = new LogReaders();
  await readers.done("t", 1_000, clock);
  const [one, two] = [readers.hold("t"), readers.hold("t")];
  let done = 0;
  const waiting = readers.done("t", 1_000, clock).then(() => (done += 1));
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(done, 0);
  two[Symbol.dispose]();
  await waiting;
  using _stalled = readers.hold("t");
  const impatient = readers.done("t", 1_000, clock);
  clock.advance(1_000);
  await impatient;
});
