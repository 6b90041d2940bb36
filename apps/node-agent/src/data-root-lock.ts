/**
 * One agent per data root: a file that names its owner by pid, start ticks and boot, so that a killed owner's file binds
 * nobody and a recycled pid is not taken for it.
 */
import { link, mkdir, readFile, rename, rm, unlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { randomUUID } from "node:crypto";
import { StatusError } from "@berth/base";
import { bootId, isAlive, processStartTicks } from "@berth/linux";

interface Owner {
  readonly pid: number;
  readonly startTicks: number;
  readonly bootId: string;
}

/** @throws FAILED_PRECONDITION `DATA_ROOT_IN_USE` naming the process that has it. */
export async function lockDataRoot(path: string): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const me: Owner = { pid: process.pid, startTicks: processStartTicks(process.pid) ?? 0, bootId: bootId() };
  const mine = `${path}.${randomUUID()}`;
  await writeFile(mine, JSON.stringify(me), { mode: 0o600 });
  try {
    while (!(await tryLink(mine, path))) await removeDead(path);
  } finally {
    await rm(mine, { force: true });
  }
  return {
    async [Symbol.asyncDispose]() {
      await rm(path, { force: true });
    },
  };
}

/** Who has the data root now: the pid of a living agent, or undefined. Takes nothing. */
export async function dataRootOwner(path: string): Promise<number | undefined> {
  const owner = await readOwner(path);
  return isLiving(owner) ? owner?.pid : undefined;
}

async function tryLink(mine: string, path: string): Promise<boolean> {
  try {
    await link(mine, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw StatusError.from(error, `lock ${path}`);
  }
}

async function removeDead(path: string): Promise<void> {
  const owner = await readOwner(path);
  if (owner !== undefined && isLiving(owner)) {
    const text = `the data root of ${path} is in use by the agent with pid ${owner.pid}; stop it first, or give this one another root`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "DATA_ROOT_IN_USE", details: { pid: owner.pid } });
  }
  // Moved away rather than deleted: what was moved is looked at again, for another agent may have put its own there since.
  const moved = `${path}.${randomUUID()}`;
  try {
    await rename(path, moved);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw StatusError.from(error, `lock ${path}`);
  }
  if (isLiving(await readOwner(moved))) await link(moved, path).catch(() => {});
  await unlink(moved);
}

function isLiving(owner: Owner | undefined): boolean {
  return owner !== undefined && owner.bootId === bootId() && isAlive(owner.pid, owner.startTicks);
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Owner;
  } catch {
    return undefined;
  }
}
