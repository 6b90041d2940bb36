import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { bootId, boottimeMs, isAlive, killProcess, processStartTicks, processStat } from "./process.ts";
import { signalName, signalNumber } from "./signals.ts";

test("processStartTicks tells a process from a later one with its pid", async (t) => {
  const child = spawn("sleep", ["60"]);
  t.after(() => child.kill("SIGKILL"));
  await once(child, "spawn");
  const pid = child.pid!;
  const ticks = processStartTicks(pid)!;
  assert.ok(ticks > processStartTicks(1)!);
  assert.equal(processStat(pid)!.parentPid, process.pid);
  assert.equal(isAlive(pid, ticks), true);
  assert.equal(isAlive(pid, ticks + 1), false);
  assert.equal(killProcess(pid, "KILL", ticks + 1), false, "another process with this pid is not touched");
  assert.equal(isAlive(pid), true);
  const ended = once(child, "close");
  assert.equal(killProcess(pid, "SIGKILL", ticks), true);
  assert.deepEqual(await ended, [null, "SIGKILL"]);
  assert.equal(isAlive(pid, ticks), false);
  assert.equal(killProcess(pid, "SIGKILL", ticks), false);
  assert.equal(processStartTicks(pid), undefined);
});

test("processStat reads a command name that looks like the fields after it", async (t) => {
  const child = spawn(process.execPath, [
    "-e",
    `process.title = "a) R 1 (b"; setInterval(() => {}, 1000); console.log()`,
  ]);
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  assert.equal(processStat(child.pid!)!.parentPid, process.pid);
});

test("killProcess refuses a signal it does not know", () => {
  assert.throws(() => killProcess(process.pid, "SIGNOTHING"), { reason: "SIGNAL_UNKNOWN" });
  assert.throws(() => killProcess(process.pid, 0), { reason: "SIGNAL_UNKNOWN" });
});

test("signalNumber takes names and numbers in every usual spelling", () => {
  for (const text of ["15", 15, "TERM", "sigterm", " SIGTERM "]) assert.equal(signalNumber(text), 15);
  assert.equal(signalNumber("SIGRTMIN+3"), 37);
  assert.equal(signalNumber("rtmax-1"), 63);
  for (const text of ["SIGRTMAX+1", "SIGRTMIN-1", "65", "-1", "", "SIG", "9x"]) {
    assert.throws(() => signalNumber(text), { reason: "SIGNAL_UNKNOWN" }, text);
  }
});

test("signalName is the inverse of signalNumber", () => {
  for (let number = 1; number <= 64; number += 1) {
    if (number === 32 || number === 33) continue;
    assert.equal(signalNumber(signalName(number)), number);
  }
  assert.equal(signalName(6), "SIGABRT");
  assert.equal(signalName(29), "SIGIO");
});

test("boottimeMs goes on and bootId is a UUID", () => {
  const before = boottimeMs();
  assert.ok(before > 0 && boottimeMs() >= before);
  assert.match(bootId(), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
});
