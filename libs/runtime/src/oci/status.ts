/** The state of a container in the runtime's own eyes, by its files where they are known, else by asking it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CgroupLayout } from "@berth/linux";
import type { ContainerStatus } from "../runtime.ts";
import { mustRunRuntime, runRuntime, type RuntimeCommand } from "./command.ts";

/** Both runc and crun keep a FIFO in their state on which a created container waits; `start` removes it. */
export function awaitsStart(root: string, id: string): boolean {
  return existsSync(join(root, id, "exec.fifo"));
}

/** Is the group frozen (v1 freezer, or v2)? */
export function isFrozen(cgroups: CgroupLayout, cgroupPath: string): boolean {
  const freezer = cgroups.controllers.get("freezer");
  if (freezer !== undefined) return readTrimmed(join(freezer, cgroupPath, "freezer.state")) === "FROZEN";
  if (cgroups.unified === undefined) return false;
  return readTrimmed(join(cgroups.unified, cgroupPath, "cgroup.freeze")) === "1";
}

/** What `RUNTIME state` says; undefined for a container that it does not know. */
export async function runtimeStatus(
  command: RuntimeCommand,
  root: string,
  id: string,
): Promise<ContainerStatus | undefined> {
  const outcome = await runRuntime(command, root, ["state", id]);
  if (outcome.code !== 0) return undefined;
  return toStatus((JSON.parse(outcome.stdout) as { status: string }).status);
}

/** What `RUNTIME list` says. */
export async function listRuntime(
  command: RuntimeCommand,
  root: string,
): Promise<readonly { readonly id: string; readonly status: ContainerStatus }[]> {
  const output = await mustRunRuntime(command, root, ["list", "--format", "json"]);
  const entries = JSON.parse(output.trim() === "" ? "null" : output) as { id: string; status: string }[] | null;
  return (entries ?? []).map(({ id, status }) => ({ id, status: toStatus(status) }));
}

function toStatus(status: string): ContainerStatus {
  switch (status) {
    case "creating":
    case "created":
      return "created";
    case "running":
      return "running";
    case "pausing":
    case "paused":
      return "paused";
    default:
      return "stopped";
  }
}

function readTrimmed(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined; // no such group, or gone meanwhile: not frozen
  }
}
