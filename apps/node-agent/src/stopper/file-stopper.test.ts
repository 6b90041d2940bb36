/** The real stopper, on real cgroups: it ends what is listed when the deadline has passed, exactly that, and without an agent. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { hasCode, silentLogger, systemClock } from "@berth/base";
import {
  addToCgroup,
  bootId,
  boottimeMs,
  cgroupPids,
  createCgroup,
  detectCgroupLayout,
  isAlive,
  removeCgroup,
} from "@berth/linux";
import { eventually } from "@berth/testkit/servers";
import { FileStopper } from "./file-stopper.ts";
import type { StopEntry } from "./stopper.ts";

const cgroups = detectCgroupLayout();

interface Lab {
  readonly directory: string;
  readonly parent: string;
  readonly open: (shell?: string) => Promise<FileStopper>;
  readonly pid: () => number;
  /** A process in a cgroup of its own, as a container is, that does this on SIGTERM. */
  readonly container: (
    name: string,
    onTerm: string,
  ) => Promise<{ readonly child: ChildProcess; readonly entry: StopEntry }>;
}

function lab(t: TestContext): Lab {
  const directory = mkdtempSync(join(tmpdir(), "berth-stopper-"));
  const parent = `/berth-stopper-test-${process.pid}-${Math.random().toString(36).slice(2)}`;
  const pid = (): number => Number(readFileSync(join(directory, "pid"), "utf8"));
  t.after(async () => {
    await removeCgroup(cgroups, parent, { kill: true });
    rmSync(directory, { recursive: true, force: true });
  });
  const deps = { clock: systemClock, boottimeMs, bootId: bootId(), cgroups, logger: silentLogger };
  return {
    directory,
    parent,
    pid,
    open: (shell) => FileStopper.open(deps, { directory, cgroup: `${parent}/_stopper`, ...(shell && { shell }) }),
    async container(name, onTerm) {
      const child = spawn("sh", ["-c", `trap '${onTerm}' TERM; echo up; while :; do sleep 30 & wait $!; done`], {
        stdio: ["ignore", "pipe", "ignore"],
      });
      t.after(() => child.kill("SIGKILL"));
      const cgroup = `${parent}/${name}`;
      createCgroup(cgroups, cgroup);
      addToCgroup(cgroups, cgroup, child.pid!);
      await once(child.stdout, "data");
      const initPidFile = join(directory, `${name}.pid`);
      writeFileSync(initPidFile, String(child.pid));
      const freezer = cgroups.controllers.get("freezer");
      const entry: StopEntry = {
        key: name,
        cgroups: cgroups.roots.slice(0, 2).map((root) => join(root, cgroup)),
        freezer:
          freezer === undefined || freezer === cgroups.unified ? undefined : join(freezer, cgroup, "freezer.state"),
        initPidFile,
        signal: 15,
        graceMs: 300,
      };
      return { child, entry };
    },
  };
}

const ended = (child: ChildProcess): Promise<unknown[]> => once(child, "exit");

test("stopper ends what is listed once the deadline has passed, in a cgroup of its own, and touches nothing else", async (t) => {
  const { open, container, parent, pid, directory } = lab(t);
  const stopper = await open();
  assert.equal(stopper.problem(), undefined);
  const [polite, stubborn, unlisted] = await Promise.all([
    container("polite", "exit 7"),
    container("stubborn", ""),
    container("unlisted", "exit 1"),
  ]);
  const ends = [ended(polite.child), ended(stubborn.child)];
  assert.ok(cgroupPids(cgroups, `${parent}/_stopper`).includes(pid()));
  stopper.arm(boottimeMs() + 60_000);
  await stopper.list(polite.entry);
  await stopper.list(stubborn.entry);
  const deadlineMs = boottimeMs() + 400;
  stopper.arm(deadlineMs);
  assert.deepEqual(await Promise.all(ends), [
    [7, null],
    [null, "SIGKILL"],
  ]);
  const tookMs = boottimeMs() - deadlineMs;
  assert.ok(tookMs > 250 && tookMs < 5_000, `grace and kill took ${tookMs} ms`);
  assert.equal(isAlive(unlisted.child.pid!), true);
  const mark = stopper.mark("polite")!;
  assert.ok(Math.abs(mark.deadlineBoottimeMs - deadlineMs) <= 10 && mark.firedBoottimeMs >= mark.deadlineBoottimeMs);
  assert.equal(stopper.mark("unlisted"), undefined);
  for (const { entry } of [polite, stubborn]) stopper.unlist(entry.key);
  assert.equal(stopper.mark("polite"), undefined);
  const last = pid();
  await eventually("with nothing listed and no lease, it ends", () => !isAlive(last));
  assert.equal(readFileSync(join(directory, "pid"), "utf8"), "");
});

test("stopper spares what is listed as long as it is armed anew, and finds one that begins to run after the deadline", async (t) => {
  const { open, container } = lab(t);
  const stopper = await open();
  const { child, entry } = await container("renewed", "exit 7");
  stopper.arm(boottimeMs() + 300);
  await stopper.list(entry);
  for (let renewal = 0; renewal < 10; renewal += 1) {
    stopper.arm(boottimeMs() + 300);
    await systemClock.sleep(100);
  }
  assert.equal(isAlive(child.pid!), true);
  await stopper.list({ ...entry, key: "late", cgroups: entry.cgroups.map((path) => path.replace("renewed", "late")) });
  assert.deepEqual(await ended(child), [7, null], "nobody renews any more");
  const late = await container("late", "exit 7");
  assert.deepEqual(await ended(late.child), [null, "SIGKILL"], "its first pid is another file's: no grace without it");
});

test("stopper is found by the next agent; one that was killed or hangs is replaced; a frozen container is ended too", async (t) => {
  const { open, container, pid } = lab(t);
  const first = await open();
  const { child, entry } = await container("frozen", "");
  first.arm(boottimeMs() + 60_000);
  await first.list(entry);
  const before = pid();
  const second = await open();
  assert.deepEqual([pid(), second.problem()], [before, undefined]);
  process.kill(before, "SIGKILL");
  await eventually("it is missed", () => second.problem() !== undefined);
  await second.ensure();
  assert.equal(second.problem(), undefined);
  const hanging = pid();
  assert.notEqual(hanging, before);
  process.kill(hanging, "SIGSTOP");
  await eventually("it is seen to hang", () => second.problem() !== undefined, { timeoutMs: 10_000 });
  await second.ensure();
  assert.notEqual(pid(), hanging);
  process.kill(hanging, "SIGCONT");
  await eventually("the older one gives way", () => !isAlive(hanging));
  if (entry.freezer !== undefined) writeFileSync(entry.freezer, "FROZEN");
  const end = ended(child);
  second.arm(0);
  assert.deepEqual(await end, [null, "SIGKILL"]);
});

test("list refuses when the stopper cannot run, and says why", async (t) => {
  const { open, container, directory } = lab(t);
  const stopper = await open("/bin/false");
  assert.match(stopper.problem()!, /ended with 1/);
  const { entry } = await container("any", "exit 7");
  await assert.rejects(stopper.list(entry), (error) => {
    return hasCode(error, "FAILED_PRECONDITION") && /stopper cannot be armed .*stopThenReplace/.test(String(error));
  });
  assert.equal(existsSync(join(directory, "tasks", "any")), true);
});

test("the stopper takes a few hundred kilobytes", async (t) => {
  const { open, pid } = lab(t);
  await open();
  const privateKb = [...readFileSync(`/proc/${pid()}/smaps_rollup`, "utf8").matchAll(/^Private_\w+:\s+(\d+) kB/gm)];
  const sum = privateKb.reduce((total, [, kb]) => total + Number(kb), 0);
  assert.ok(sum < 600, `${sum} KiB private`);
});

void test("FileStopper is not taken for broken by who looks while the stopper writes its beat, and is when the beat stays away", async (t) => {
  const { directory, pid, open } = lab(t);
  const stopper = await open();
  stopper.arm(boottimeMs() + 60_000);
  assert.equal(stopper.problem(), undefined);
  // Stopped amid a write: the shell has emptied the file, and not written yet.
  process.kill(pid(), "SIGSTOP");
  writeFileSync(join(directory, "beat"), "");
  assert.equal(stopper.problem(), undefined);
  await eventually("it is known to hang", () => stopper.problem() === "it has ended or hangs", { timeoutMs: 10_000 });
});
