/**
 * Taking a container away, whatever state it is in: running, ended, half created, without its supervisor. Each step is
 * idempotent and goes by what is there, so a deletion that was cut short is simply run again.
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "@berth/base";
import { isAlive, killProcess, removeCgroup, type CgroupLayout } from "@berth/linux";
import { lastMessage, runRuntime, runtimeFailed, type RuntimeCommand } from "./command.ts";
import type { ContainerPaths } from "./layout.ts";
import { findConmon, type Observation } from "./observe.ts";
import { isFrozen, runtimeStatus } from "./status.ts";

export interface DeleteDeps {
  readonly cgroups: CgroupLayout;
  readonly clock: Clock;
  readonly observe: () => Observation;
}

export interface DeleteTarget {
  readonly command: RuntimeCommand;
  readonly root: string;
  readonly id: string;
  readonly cgroupPath: string;
  readonly paths: ContainerPaths;
  readonly exitFile: string;
  readonly nativeInit: boolean;
}

/** How long a killed container and its supervisor are given to end by themselves, in order, with the exit code written. */
const END_MS = 10_000;

export async function deleteContainer(deps: DeleteDeps, target: DeleteTarget): Promise<void> {
  await endProcesses(deps, target);
  await endSupervisor(deps, target);
  await forget(target);
  await removeCgroup(deps.cgroups, target.cgroupPath, { kill: true, clock: deps.clock });
  await removeFiles(target);
}

/** The first process takes the others of its pid namespace with it. */
async function endProcesses(deps: DeleteDeps, target: DeleteTarget): Promise<void> {
  const observation = deps.observe();
  if (observation.kind !== "alive" || !target.nativeInit) return;
  if (isFrozen(deps.cgroups, target.cgroupPath)) {
    await runRuntime(target.command, target.root, ["resume", target.id]); // a frozen process does not die
  }
  const { init } = observation.identity;
  killProcess(init.pid, "SIGKILL", init.startTicks);
  await until(deps.clock, () => !isAlive(init.pid, init.startTicks));
}

/** conmon ends by itself once its container has; one that hangs, or is still creating, is killed (runc dies with it). */
async function endSupervisor(deps: DeleteDeps, target: DeleteTarget): Promise<void> {
  const observation = deps.observe();
  const pid = findConmon(target.paths);
  if (pid === undefined) return;
  const gone = (): boolean => findConmon(target.paths) === undefined || !isAlive(pid);
  const endsByItself = observation.kind === "ended" || observation.kind === "ending";
  if (endsByItself && (await until(deps.clock, gone))) return;
  killProcess(pid, "SIGKILL");
  await until(deps.clock, gone);
}

/** The runtime's own record. A forced deletion of what it does not know is success. */
async function forget(target: DeleteTarget): Promise<void> {
  if (!existsSync(join(target.root, target.id)) && target.nativeInit) return;
  const outcome = await runRuntime(target.command, target.root, ["delete", "--force", target.id]);
  if (outcome.code === 0) return;
  if ((await runtimeStatus(target.command, target.root, target.id)) !== undefined) {
    throw runtimeFailed(target.command.name, "delete", lastMessage(outcome.stderr) ?? `exit code ${outcome.code}`);
  }
  // A record too damaged to be read (the runtime was killed while it wrote) would otherwise block the id for ever.
  await rm(join(target.root, target.id), { recursive: true, force: true });
}

async function removeFiles(target: DeleteTarget): Promise<void> {
  const files = [target.exitFile, target.paths.supervisor, ...target.paths.bundleSockets];
  await Promise.all(files.map((path) => rm(path, { recursive: true, force: true })));
}

/** False when it did not come true in time. */
async function until(clock: Clock, isTrue: () => boolean): Promise<boolean> {
  const deadline = clock.monotonicMs() + END_MS;
  for (let waitMs = 1; !isTrue(); waitMs = Math.min(waitMs * 2, 50)) {
    if (clock.monotonicMs() >= deadline) return false;
    await clock.sleep(waitMs);
  }
  return true;
}
