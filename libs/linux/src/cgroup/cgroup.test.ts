import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { scratch, withoutRoot } from "../testing/scratch.ts";
import { parseMountInfo } from "../mountinfo.ts";
import { addToCgroup, cgroupExists, cgroupPids, createCgroup, killCgroup, removeCgroup } from "./cgroup.ts";
import { detectCgroupLayout, type CgroupLayout } from "./layout.ts";
import { cgroupOomKills, cgroupStats } from "./stats.ts";

const layout = detectCgroupLayout();
const skip = withoutRoot || (layout.mode === "none" ? "no cgroups are mounted" : false);

/** A path of this test alone, removed with whatever is left in it. */
function group(t: TestContext): string {
  const path = `/berth-test-${process.pid}-${Math.random().toString(36).slice(2)}`;
  t.after(() => removeCgroup(layout, path, { kill: true }));
  return path;
}

/** A shell that waits for a line, so that it can be moved into a group before it does anything. */
function waiting(t: TestContext, script: string): ChildProcess {
  const child = spawn("sh", ["-c", `read -r _; ${script}`], { stdio: ["pipe", "pipe", "ignore"] });
  t.after(() => child.kill("SIGKILL"));
  return child;
}

test("createCgroup makes the group in every hierarchy, twice without harm", { skip }, async (t) => {
  const path = group(t);
  createCgroup(layout, `${path}/shop/web`);
  createCgroup(layout, `${path}/shop/web`);
  assert.equal(cgroupExists(layout, `${path}/shop`), true);
  const stats = cgroupStats(layout, `${path}/shop/web`);
  assert.deepEqual([stats.memoryLimitBytes, stats.pids, stats.oomKills], [undefined, 0, 0]);
  await removeCgroup(layout, path);
  await removeCgroup(layout, path);
  assert.equal(cgroupExists(layout, path), false);
  assert.equal(cgroupStats(layout, path).memoryBytes, undefined);
});

test("cgroupStats counts what a process in the group takes", { skip }, async (t) => {
  const path = group(t);
  createCgroup(layout, `${path}/a`);
  const child = waiting(t, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read -r _");
  addToCgroup(layout, `${path}/a`, child.pid!);
  assert.deepEqual(cgroupPids(layout, path), [child.pid], "groups below count");
  child.stdin!.write("go\n");
  await once(child.stdout!, "data");
  const stats = cgroupStats(layout, `${path}/a`);
  assert.ok(stats.cpuSeconds! > 0, "cpu");
  assert.ok(stats.memoryBytes! > 0 && stats.memoryWorkingSetBytes! <= stats.memoryBytes!, "memory");
  assert.equal(stats.pids, 1);
});

test("removeCgroup refuses a group in use, and kills what is left on request", { skip }, async (t) => {
  const path = group(t);
  createCgroup(layout, `${path}/a/b`);
  const child = waiting(t, "sleep 60");
  addToCgroup(layout, `${path}/a/b`, child.pid!);
  child.stdin!.write("go\n");
  await assert.rejects(removeCgroup(layout, path), { code: "FAILED_PRECONDITION", reason: "CGROUP_IN_USE" });
  const ended = once(child, "exit");
  await removeCgroup(layout, path, { kill: true });
  assert.deepEqual(await ended, [null, "SIGKILL"]);
  assert.equal(cgroupExists(layout, path), false);
});

test("killCgroup reaches processes of groups below and leaves others alone", { skip }, async (t) => {
  const path = group(t);
  createCgroup(layout, `${path}/a`);
  createCgroup(layout, `${path}/ab`);
  const [inside, beside] = [waiting(t, "sleep 60"), waiting(t, "sleep 60")];
  addToCgroup(layout, `${path}/a`, inside.pid!);
  addToCgroup(layout, `${path}/ab`, beside.pid!);
  const ended = once(inside, "exit");
  assert.equal(killCgroup(layout, `${path}/a`) >= 1, true);
  await ended;
  assert.deepEqual(cgroupPids(layout, path), [beside.pid]);
});

test("cgroupOomKills counts the kernel's kills", { skip }, async (t) => {
  const path = group(t);
  createCgroup(layout, path);
  const memory = layout.controllers.get("memory")!;
  const v2 = memory === layout.unified;
  writeFileSync(join(memory, path, v2 ? "memory.max" : "memory.limit_in_bytes"), String(16 << 20));
  assert.equal(cgroupStats(layout, path).memoryLimitBytes, 16 << 20);
  const child = waiting(t, "exec tail /dev/zero");
  addToCgroup(layout, path, child.pid!);
  child.stdin!.write("go\n");
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
  assert.equal(cgroupOomKills(layout, path), 1);
});

test("createCgroup refuses paths that would leave the hierarchy", () => {
  for (const path of ["", "/", "/a/../..", "a/./b", "/a\0b"]) {
    assert.throws(() => createCgroup(layout, path), { reason: "CGROUP_PATH_INVALID" }, path);
  }
});

const line = (target: string, fsType: string, options: string, device: string): string =>
  `1 1 0:${device} / ${target} rw - ${fsType} cgroup ${options}`;

test("detectCgroupLayout tells v1, hybrid, v2 and none apart", () => {
  const detect = (...lines: string[]): CgroupLayout => detectCgroupLayout(parseMountInfo(lines.join("\n")));
  const memory = line("/cg/memory", "cgroup", "rw,memory", "1");
  const cpu = line("/cg/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct", "2");
  const systemd = line("/cg/systemd", "cgroup", "rw,name=systemd", "3");
  const unified = line("/cg/unified", "cgroup2", "rw", "4");
  assert.equal(detect().mode, "none");
  assert.equal(detect(unified).mode, "v2");
  const v1 = detect(memory, cpu, systemd, line("/elsewhere/memory", "cgroup", "rw,memory", "1"));
  assert.equal(v1.mode, "v1");
  assert.deepEqual(v1.roots, ["/cg/memory", "/cg/cpu,cpuacct", "/cg/systemd"]);
  assert.equal(v1.controllers.get("cpuacct"), "/cg/cpu,cpuacct");
  assert.equal(detect(memory, unified).mode, "hybrid");
});

test("cgroupStats and createCgroup speak v2", async (t) => {
  // The files of a v2 host, laid out by hand: this machine may have none with a memory controller.
  const dir = scratch(t);
  writeFileSync(join(dir, "cgroup.controllers"), "cpu memory pids\n");
  writeFileSync(join(dir, "cgroup.subtree_control"), "cpu\n");
  const v2 = {
    mode: "v2",
    unified: dir,
    controllers: new Map(["cpu", "memory", "pids"].map((name) => [name, dir])),
    roots: [dir],
  } as const;
  createCgroup(v2, "/berth/a");
  assert.equal(readFileSync(join(dir, "cgroup.subtree_control"), "utf8"), "+pids", "the last of those missing");
  const files = {
    "memory.current": "4096000\n",
    "memory.max": "max\n",
    "memory.stat": "anon 1\ninactive_file 96000\n",
    "memory.events": "low 0\noom 2\noom_kill 3\noom_group_kill 1\n",
    "cpu.stat": "usage_usec 2500000\nthrottled_usec 500000\n",
    "pids.current": "7\n",
  };
  mkdirSync(join(dir, "berth", "a"), { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(dir, "berth", "a", file), text);
  assert.deepEqual(cgroupStats(v2, "/berth/a"), {
    memoryBytes: 4_096_000,
    memoryWorkingSetBytes: 4_000_000,
    memoryLimitBytes: undefined,
    oomKills: 3,
    cpuSeconds: 2.5,
    throttledSeconds: 0.5,
    pids: 7,
  });
});
