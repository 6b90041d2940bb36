/** `bin/berthd-start` with versions that are shell scripts: what it starts, and when it goes back. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { scratchDir } from "@berth/testkit/servers";

const SCRIPT = resolve(import.meta.dirname, "../../bin/berthd-start");

/** A folder as install.sh makes it. */
function installed(folder: string, versions: Readonly<Record<string, string>>): void {
  mkdirSync(join(folder, "bin"), { recursive: true });
  mkdirSync(join(folder, "upgrade"));
  cpSync(SCRIPT, join(folder, "bin/berthd-start"));
  for (const [version, script] of Object.entries(versions)) {
    mkdirSync(join(folder, "versions", version, "bin"), { recursive: true });
    writeFileSync(join(folder, "versions", version, "bin/berthd"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  symlinkSync(`versions/${Object.keys(versions)[0]!}`, join(folder, "current"));
}

function order(folder: string, seconds = 60): void {
  writeFileSync(join(folder, "upgrade/order"), `id=u1\nto=new\nfrom=old\nseconds=${seconds}\nhandlers=runc\n`);
}

function start(folder: string, ...args: string[]): { readonly said: string; readonly status: number | null } {
  const { stdout, status } = spawnSync(join(folder, "bin/berthd-start"), args, { encoding: "utf8", timeout: 30_000 });
  return { said: stdout.trim(), status };
}

const current = (folder: string): string => readlinkSync(join(folder, "current"));
const result = (folder: string): string => readFileSync(join(folder, "upgrade/result"), "utf8");

void test("berthd-start starts the current version with its arguments", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: 'echo "old $*"' });
  assert.deepEqual(start(scratch.dir, "--config", "a b"), { said: "old --config a b", status: 0 });
});

void test("berthd-start goes over to the ordered version, which stays when it removes the order", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: "echo old", new: `rm ${scratch.dir}/upgrade/order; echo new` });
  order(scratch.dir);
  assert.deepEqual([start(scratch.dir).said, start(scratch.dir).said], ["new", "new"]);
  assert.equal(current(scratch.dir), "versions/new");
});

void test("berthd-start takes a version back that ends again and again, and says so", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: "echo old", new: "echo new; exit 1" });
  order(scratch.dir);
  const said = [1, 2, 3, 4, 5].map(() => start(scratch.dir).said);
  assert.deepEqual(said, ["new", "new", "new", "old", "old"]);
  assert.match(result(scratch.dir), /^id=u1\nto=new\nfrom=old\noutcome=rolled-back\nreason=it ended 3 times/);
  assert.ok(!existsSync(join(scratch.dir, "upgrade/order")));
});

void test("berthd-start watches nobody else when the version ended before it looked", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: "echo old", new: "echo new; exit 1" });
  const script = join(scratch.dir, "bin/berthd-start");
  writeFileSync(script, readFileSync(script, "utf8").replace("watch() {", "watch() {\n  sleep 1"));
  order(scratch.dir, 20);
  const begunMs = performance.now();
  // Its output is open for as long as somebody watches.
  assert.equal(start(scratch.dir).said, "new");
  assert.ok(performance.now() - begunMs < 15_000, "until its deadline, for a process that is no more");
});

void test("berthd-start has a version that hangs ended at its deadline, though it ignores SIGTERM", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: "echo old", new: "trap '' TERM; while :; do sleep 1; done" });
  order(scratch.dir, 1);
  assert.equal(start(scratch.dir).status, null, "it was killed");
  assert.equal(start(scratch.dir).said, "old");
  assert.match(result(scratch.dir), /reason=it had not proven itself after 1 s/);
});

void test("berthd-start does not count the time of another boot, nor starts a version that is not there", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: "echo old", new: `echo new` });
  order(scratch.dir);
  writeFileSync(join(scratch.dir, "upgrade/tries"), "boot=another\ndeadline=1\nstarts=1\n");
  assert.equal(start(scratch.dir).said, "new");
  const order2 = readFileSync(join(scratch.dir, "upgrade/order"), "utf8").replace("to=new", "to=gone");
  writeFileSync(join(scratch.dir, "upgrade/order"), order2);
  assert.equal(start(scratch.dir).said, "old");
  assert.match(result(scratch.dir), /to=gone\nfrom=old\noutcome=rolled-back\nreason=it is not in /);
});

void test("berthd-start takes back again what was cut short before the order was removed", () => {
  using scratch = scratchDir("berthd-start");
  installed(scratch.dir, { old: "echo old", new: "echo new; exit 1" });
  order(scratch.dir);
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  writeFileSync(join(scratch.dir, "upgrade/tries"), `boot=${boot}\ndeadline=1\nstarts=2\n`);
  writeFileSync(join(scratch.dir, "upgrade/result"), "id=u1\nto=new\nfrom=old\noutcome=rolled-back\nreason=x\n");
  assert.equal(start(scratch.dir).said, "old");
  assert.equal(current(scratch.dir), "versions/old");
  assert.ok(!existsSync(join(scratch.dir, "upgrade/order")));
});

void test("berthd-start of a clone is berthd", () => {
  using scratch = scratchDir("berthd-start");
  mkdirSync(join(scratch.dir, "bin"));
  cpSync(SCRIPT, join(scratch.dir, "bin/berthd-start"));
  writeFileSync(join(scratch.dir, "bin/berthd"), '#!/bin/sh\necho "clone $*"\n', { mode: 0o755 });
  assert.equal(start(scratch.dir, "--version").said, "clone --version");
});
