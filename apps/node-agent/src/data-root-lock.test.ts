import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { hasCode } from "@berth/base";
import { bootId, processStartTicks } from "@berth/linux";
import { lockDataRoot } from "./data-root-lock.ts";

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "berth-lock-"));
  path = join(directory, "root", "agent.lock");
});
afterEach(() => rm(directory, { recursive: true }));

test("lockDataRoot refuses a second owner, and lets go when disposed", async () => {
  const first = await lockDataRoot(path);
  await assert.rejects(
    lockDataRoot(path),
    (error) => hasCode(error, "FAILED_PRECONDITION") && error.message.includes(`pid ${process.pid}`),
  );
  await first[Symbol.asyncDispose]();
  assert.equal(existsSync(path), false);
  await (await lockDataRoot(path))[Symbol.asyncDispose]();
  assert.deepEqual(readdirSync(join(directory, "root")), []);
});

test("lockDataRoot takes over from an owner that is dead, from another boot, or another process with its pid", async () => {
  const me = { pid: process.pid, startTicks: processStartTicks(process.pid) ?? 0, bootId: bootId() };
  const dead = [
    JSON.stringify({ ...me, pid: 2 ** 22 - 3 }),
    JSON.stringify({ ...me, startTicks: me.startTicks + 1 }),
    JSON.stringify({ ...me, bootId: "another" }),
    "torn",
  ];
  await (await lockDataRoot(path))[Symbol.asyncDispose]();
  for (const owner of dead) {
    await writeFile(path, owner);
    await (await lockDataRoot(path))[Symbol.asyncDispose]();
  }
  assert.deepEqual(readdirSync(join(directory, "root")), []);
});
