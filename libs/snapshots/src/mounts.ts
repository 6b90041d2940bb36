/**
 * Making the mounts that a snapshotter describes.
 *
 * Options are mount(8)'s, and two that are containerd's: `uidmap=` and `gidmap=` show other owners than the disk has.
 */
import { mkdtemp, rmdir } from "node:fs/promises";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  fromNodeError,
  hasErrno,
  mount,
  mountIdmapped,
  parseIdRanges,
  unmount,
  unmountAll,
  type IdMapping,
} from "@berth/linux";
import type { Mount } from "./snapshotter.ts";

/** Mounts all of them on `target`, which must exist, one over the other; those made are undone when one fails. */
export function mountAll(mounts: readonly Mount[], target: string): void {
  let made = 0;
  try {
    for (const each of mounts) {
      mountOne(each, target);
      made += 1;
    }
  } catch (error) {
    for (; made > 0; made -= 1) unmount(target, { detach: true });
    throw error;
  }
}

function mountOne(described: Mount, target: string): void {
  const { type, source } = described;
  const { mapping, options } = takeMapping(described);
  if (mapping === undefined) mount({ type, source, target, options });
  else if (type === "overlay") mountIdmappedOverlay(described, options, mapping, target);
  else mountIdmapped(source, target, mapping, { readonly: options.includes("ro") });
}

function takeMapping({ options }: Mount): { mapping: IdMapping | undefined; options: readonly string[] } {
  const find = (name: string): string | undefined =>
    options.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
  const [uid, gid] = [find("uidmap"), find("gidmap")];
  if (uid === undefined || gid === undefined) return { mapping: undefined, options };
  const mapping = { uid: parseIdRanges(uid, "uidmap"), gid: parseIdRanges(gid, "gidmap") };
  return { mapping, options: options.filter((text) => !/^[ug]idmap=/.test(text)) };
}

/**
 * An overlay whose lower layers have other owners: their common directory is mounted aside so, for as long as the overlay
 * is being made; it keeps what it needs of that.
 */
function mountIdmappedOverlay(described: Mount, options: readonly string[], mapping: IdMapping, target: string): void {
  const lower = lowerDirectories([described]);
  const shared = commonDirectory(lower);
  const aside = mkdtempSync(join(tmpdir(), "berth-idmap-"));
  try {
    mountIdmapped(shared, aside, mapping);
    const moved = lower.map((path) => join(aside, path.slice(shared.length)));
    const rest = options.filter((text) => !text.startsWith("lowerdir="));
    mount({ type: "overlay", source: described.source, target, options: [...rest, `lowerdir=${moved.join(":")}`] });
  } finally {
    unmountAll(aside, { detach: true });
    rmdirSync(aside);
  }
}

/** The nearest directory that has all of these below it; one of them if there is only that. */
function commonDirectory(paths: readonly string[]): string {
  const [first = "/", ...rest] = paths;
  const parts = first.split("/");
  let count = rest.length === 0 ? parts.length : parts.length - 1;
  for (const path of rest) {
    const other = path.split("/");
    while (count > 0 && parts.slice(0, count).join("/") !== other.slice(0, count).join("/")) count -= 1;
  }
  return parts.slice(0, count).join("/") || "/";
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

/** Mounts on a fresh directory below `dir` for as long as `fn` runs. What is written is not taken for volatile. */
export async function withTempMount<T>(
  mounts: readonly Mount[],
  dir: string,
  fn: (target: string) => Promise<T> | T,
): Promise<T> {
  const target = await temporaryDirectory(dir);
  try {
    mountAll(mounts.map(lasting), target);
    try {
      return await fn(target);
    } finally {
      unmountTarget(target);
    }
  } finally {
    await rmdir(target);
  }
}

/** The kernel marks what was mounted volatile as not to be mounted again, and skips every sync of it. */
function lasting(described: Mount): Mount {
  return { ...described, options: described.options.filter((text) => text !== "volatile") };
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
