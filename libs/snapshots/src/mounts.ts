/** Making the mounts that a snapshotter describes. */
import { mkdtemp, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { fromNodeError, hasErrno, mount, unmount, unmountAll } from "@berth/linux";
import type { Mount } from "./snapshotter.ts";

/** Mounts all of them on `target`, which must exist, one over the other; those made are undone when one fails. */
export function mountAll(mounts: readonly Mount[], target: string): void {
  let made = 0;
  try {
    for (const { type, source, options } of mounts) {
      mount({ type, source, target, options });
      made += 1;
    }
  } catch (error) {
    for (; made > 0; made -= 1) unmount(target, { detach: true });
    throw error;
  }
}

/** Unmounts all that is on `target`; nothing there is success. What is still in use ends with its last user. */
export function unmountTarget(target: string): void {
  try {
    unmountAll(target);
  } catch (error) {
    if (!hasErrno(error, "EBUSY")) throw error;
    unmountAll(target, { detach: true });
  }
}

/** Mounts on a fresh directory below `dir` for as long as `fn` runs. */
export async function withTempMount<T>(
  mounts: readonly Mount[],
  dir: string,
  fn: (target: string) => Promise<T> | T,
): Promise<T> {
  const target = await temporaryDirectory(dir);
  try {
    mountAll(mounts, target);
    try {
      return await fn(target);
    } finally {
      unmountTarget(target);
    }
  } finally {
    await rmdir(target);
  }
}

async function temporaryDirectory(dir: string): Promise<string> {
  try {
    return await mkdtemp(join(dir, "mount-"));
  } catch (error) {
    throw fromNodeError(error, "mkdtemp", JSON.stringify(dir));
  }
}

/**
 * The directory that takes what is written through these mounts: the upper directory of an overlay, the source of a
 * writable bind mount. An archive of whole-layer changes (whiteouts as overlayfs has them) may be extracted straight into
 * it. Undefined for anything else.
 */
export function writableDirectory(mounts: readonly Mount[]): string | undefined {
  const [only, more] = mounts;
  if (only === undefined || more !== undefined) return undefined;
  if (only.type === "overlay") return option(only, "upperdir");
  const bind = only.type === "bind" || only.options.includes("bind") || only.options.includes("rbind");
  return bind && !only.options.includes("ro") ? only.source : undefined;
}

/** The directories below it, the nearest parent first; empty for other kinds of mounts. */
export function lowerDirectories(mounts: readonly Mount[]): readonly string[] {
  const [only] = mounts;
  return only?.type === "overlay" ? (option(only, "lowerdir")?.split(":") ?? []) : [];
}

function option(mount: Mount, name: string): string | undefined {
  return mount.options.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
}
