/**
 * One control group, whatever the layout of the host.
 *
 * A cgroup is named by its path below the root of every hierarchy (`/berth/shop/web-1`). Creating and removing work on all
 * hierarchies, and are idempotent. Reading gives undefined for what the host does not account.
 *
 * Files of cgroupfs are read synchronously: they live in memory, and a read takes microseconds. Removing waits without
 * blocking, because the kernel lets go of a group only some time after its last process.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StatusError, systemClock, type Clock } from "@berth/base";
import { fromNodeError, hasErrno } from "../errno.ts";
import { killProcess, processStartTicks } from "../process.ts";
import type { CgroupLayout } from "./layout.ts";

/** Creates the group in every hierarchy, with its parents; on v2 the controllers are enabled on the way down. */
export function createCgroup(layout: CgroupLayout, path: string): void {
  for (const root of layout.roots) {
    let directory = root;
    for (const part of components(path)) {
      const parent = directory;
      if (root === layout.unified) enableControllers(parent);
      directory = join(directory, part);
      makeDirectory(directory);
      if (layout.controllers.get("cpuset") === root && root !== layout.unified) inheritCpuset(parent, directory);
    }
  }
}

/** Moves a process into the group, in every hierarchy. */
export function addToCgroup(layout: CgroupLayout, path: string, pid: number): void {
  for (const root of layout.roots) write(join(root, relative(path), "cgroup.procs"), String(pid));
}

/** Is there such a group in any hierarchy? */
export function cgroupExists(layout: CgroupLayout, path: string): boolean {
  return layout.roots.some((root) => read(join(root, relative(path), "cgroup.procs")) !== undefined);
}

/** The pids in the group and all groups below it, in any hierarchy. */
export function cgroupPids(layout: CgroupLayout, path: string): number[] {
  const pids = new Set<number>();
  for (const root of layout.roots) {
    for (const directory of descendants(join(root, relative(path)))) {
      for (const line of read(join(directory, "cgroup.procs"))?.split("\n") ?? []) {
        if (line !== "" && line !== "0") pids.add(Number(line));
      }
    }
  }
  return [...pids].sort((a, b) => a - b);
}

/** Kills every process in the group and below, once; new ones may appear meanwhile. Returns how many were signalled. */
export function killCgroup(layout: CgroupLayout, path: string): number {
  const pids = cgroupPids(layout, path);
  if (layout.unified !== undefined && pids.length > 0) {
    // Kills forks in the making too (Linux 5.14), but only what sits in the v2 hierarchy.
    tryWrite(join(layout.unified, relative(path), "cgroup.kill"), "1");
  }
  return pids.filter((pid) => killMember(pid, path)).length;
}

/** The list was read a moment ago: a pid that was recycled since is not in the group, and is left alone. */
function killMember(pid: number, path: string): boolean {
  const startTicks = processStartTicks(pid);
  const groups = (read(`/proc/${pid}/cgroup`) ?? "").split("\n");
  // Contains rather than equals: in a container the table shows the path from the host's root, ours is from the mount's.
  const member = groups.some((line) => `${line}/`.includes(`/${relative(path)}/`));
  return member && startTicks !== undefined && killProcess(pid, "SIGKILL", startTicks);
}

export interface RemoveCgroupOptions {
  /** Kills what is left in it first; without, a group in use is FAILED_PRECONDITION `CGROUP_IN_USE`. */
  readonly kill?: boolean;
  /** How long to wait for the kernel to let go; default 5,000. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
}

/** Removes the group and all groups below it from every hierarchy; one that is not there is success. */
export async function removeCgroup(
  layout: CgroupLayout,
  path: string,
  options: RemoveCgroupOptions = {},
): Promise<void> {
  const { clock = systemClock, timeoutMs = 5000 } = options;
  const deadline = clock.monotonicMs() + timeoutMs;
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 100)) {
    if (options.kill) killCgroup(layout, path);
    const busy = layout.roots.filter((root) => !removeTree(join(root, relative(path))));
    if (busy.length === 0) return;
    const pids = cgroupPids(layout, path);
    if ((pids.length > 0 && !options.kill) || clock.monotonicMs() >= deadline) {
      const what = pids.length > 0 ? `in use by pids ${pids.slice(0, 8).join(", ")}` : `busy in ${busy.join(", ")}`;
      throw new StatusError("FAILED_PRECONDITION", `cgroup "${path}": ${what}`, { reason: "CGROUP_IN_USE" });
    }
    await clock.sleep(waitMs, options.signal);
  }
}

/** Deepest first; false when a group is still in use. */
function removeTree(directory: string): boolean {
  return descendants(directory)
    .reverse()
    .map((group) => {
      try {
        rmdirSync(group);
        return true;
      } catch (error) {
        const failure = fromNodeError(error, "rmdir", JSON.stringify(group));
        if (hasErrno(failure, "ENOENT")) return true;
        if (hasErrno(failure, "EBUSY", "ENOTEMPTY")) return false;
        throw failure;
      }
    })
    .every(Boolean);
}

/** A directory and those below it, parents first; empty when it is not there. */
function descendants(directory: string): string[] {
  try {
    const children = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [directory, ...children.flatMap((child) => descendants(join(directory, child.name)))];
  } catch (error) {
    if (hasErrno(fromNodeError(error, "read", directory), "ENOENT", "ENODEV", "ENOTDIR")) return [];
    throw fromNodeError(error, "read", JSON.stringify(directory));
  }
}

/** v2: what the group has, its children get too. A controller that refuses (a group with processes) is left out. */
function enableControllers(directory: string): void {
  const has = (read(join(directory, "cgroup.controllers")) ?? "").split(/\s+/).filter(Boolean);
  const enabled = new Set((read(join(directory, "cgroup.subtree_control")) ?? "").split(/\s+/));
  for (const controller of has.filter((name) => !enabled.has(name))) {
    tryWrite(join(directory, "cgroup.subtree_control"), `+${controller}`);
  }
}

/** v1: a new cpuset is empty, and no process can enter it before it has cpus and memory nodes. */
function inheritCpuset(parent: string, directory: string): void {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    if ((read(join(directory, file)) ?? "x").trim() !== "") continue;
    write(join(directory, file), (read(join(parent, file)) ?? "").trim());
  }
}

function components(path: string): string[] {
  const parts = path.split("/").filter(Boolean);
  if (parts.length === 0 || parts.some((part) => part === "." || part === "..") || path.includes("\0")) {
    throw new StatusError("INVALID_ARGUMENT", `cgroup "${path}": not a path below the root`, {
      reason: "CGROUP_PATH_INVALID",
    });
  }
  return parts;
}

function relative(path: string): string {
  return components(path).join("/");
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw fromNodeError(error, "mkdir", JSON.stringify(path));
  }
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw fromNodeError(error, `write "${text}" to`, JSON.stringify(path));
  }
}

function tryWrite(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch {
    // the caller names what it does without
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const failure = fromNodeError(error, "read", JSON.stringify(path));
    // ENODEV: the group was removed while it was open. EOPNOTSUPP: not for this group (v2 threaded, root).
    if (hasErrno(failure, "ENOENT", "ENODEV", "ESRCH", "ENOTDIR", "EOPNOTSUPP")) return undefined;
    throw failure;
  }
}
