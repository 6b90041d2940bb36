/** Pausing and killing a process of ours: it goes on by itself, whoever else dies, and nobody else is hit. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { cgroupPids, detectCgroupLayout, processStartTicks, processStat, removeCgroup } from "@berth/linux";
import { eventually, scratchDir } from "@berth/testkit/servers";
import { OwnProcess } from "./own-process.ts";

const cgroups = detectCgroupLayout();
const cgroup = `/berth-drill-test-${process.pid}`;
const scratch = scratchDir("berth-own-process");
const victims: ChildProcess[] = [];
after(async () => {
  for (const victim of victims) victim.kill("SIGKILL");
  await eventually("the healers have ended", () => cgroupPids(cgroups, cgroup).length === 0);
  await removeCgroup(cgroups, cgroup);
  scratch[Symbol.dispose]();
});

async function startVictim(supervised = false): Promise<{ child: ChildProcess; own: OwnProcess; state: () => string }> {
  const child = spawn("sleep", ["1000"], { stdio: "ignore" });
  victims.push(child);
  await once(child, "spawn");
  const own = new OwnProcess({ cgroups, cgroup, directory: scratch.dir, supervised }, child.pid);
  return { child, own, state: () => processStat(child.pid!)?.state ?? "" };
}

/** Of this victim alone. */
const healersOf = ({ pid }: ChildProcess): number[] =>
  cgroupPids(cgroups, cgroup).filter((each) => readFileSync(`/proc/${each}/cmdline`, "utf8").includes(`\0${pid}\0`));

void test("pause stops the process only when it is begun, and it goes on by itself, whichever healer is killed", async () => {
  for (const killed of [0, 1]) {
    const { child, own, state } = await startVictim();
    const begin = await own.pause(1_000);
    assert.equal(state(), "S");
    begin();
    await eventually("it is paused", () => state() === "T");
    const healers = await eventually("two healers", () =>
      healersOf(child).length === 2 ? healersOf(child) : undefined,
    );
    process.kill(healers[killed]!, "SIGKILL");
    assert.equal(state(), "T");
    await eventually("it goes on", () => state() === "S");
  }
});

void test("pause of a process that ends before it begins, or amid it, hits nobody else", async () => {
  const first = await startVictim();
  const begin = await first.own.pause(60_000);
  first.child.kill("SIGKILL");
  await once(first.child, "exit");
  begin();
  const second = await startVictim();
  (await second.own.pause(60_000))();
  await eventually("it is paused", () => second.state() === "T");
  second.child.kill("SIGKILL");
  // Long before the minute is over.
  await eventually("nobody waits for them", () => [first, second].every(({ child }) => healersOf(child).length === 0));
});

void test("pause.sh does nothing when the agent ends without having begun it", async () => {
  const { child, state } = await startVictim();
  const ticks = processStartTicks(child.pid!);
  const script = join(import.meta.dirname, "pause.sh");
  const healer = spawn("/bin/sh", [script, String(child.pid), String(ticks), "100"], { stdio: ["pipe", "ignore", "inherit"] }); // prettier-ignore
  healer.stdin.end();
  assert.deepEqual(await once(healer, "exit"), [0, null]);
  assert.equal(state(), "S");
});

void test("kill is refused where nobody starts the agent again", async () => {
  const { own } = await startVictim();
  assert.match(own.refusal("kill"), /nothing is known to start its agent again: .*supervised: true/);
  assert.equal(own.refusal("pause"), "");
  const supervised = await startVictim(true);
  assert.equal(supervised.own.refusal("kill"), "");
  supervised.own.kill()();
  assert.deepEqual(await once(supervised.child, "exit"), [null, "SIGKILL"]);
});
