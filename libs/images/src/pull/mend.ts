/**
 * Puts a layer that was extracted apart from those below it onto them, by the rules of `archive/rebase.ts`: here are the
 * mounts for it.
 *
 * Synchronous throughout: use it in a worker (A4). No mount is left.
 */
import { dirname, join } from "node:path";
import { StatusError } from "@berth/base";
import { fromNodeError, statAt } from "@berth/linux";
import { lowerDirectories, overlayOptions, writableDirectory, type Mount } from "@berth/snapshots/mounting";
import { pathArg } from "../archive/entry.ts";
import { linkMissing, mendUpper, rebaseObstacle } from "../archive/rebase.ts";
import type { MendJob, MendResult } from "./layer-job.ts";
import type { LayerUsage } from "./layer-snapshots.ts";
import { openMounts } from "./open-mounts.ts";

export function mendLayer(job: MendJob): MendResult {
  try {
    return mend(job);
  } catch (raw) {
    const { code, reason, message } = StatusError.from(fromNodeError(raw, "mend", job.mountPoint));
    const full = reason === "ENOSPC" || reason === "EDQUOT";
    throw new StatusError(
      full ? "RESOURCE_EXHAUSTED" : code,
      `${job.subject}: ${full ? "disk full: " : ""}${message}`,
      {
        reason: full ? "DISK_FULL" : reason,
        cause: raw,
      },
    );
  }
}

function mend({ upper, below, mountPoint, notes }: MendJob): MendResult {
  using own = openMounts(upper, "");
  {
    using lower = openMounts(below, mountPoint);
    const why = rebaseObstacle(notes, lower.fd);
    if (why !== undefined) return { kind: "merge", why };
    mendUpper(notes, lower.fd, own.fd);
  }
  if (notes.missingLinks.length === 0) return { kind: "mended", usage: { sizeBytes: 0, inodes: 0 } };
  using merged = openMounts([overlayOver(upper, below)], mountPoint);
  linkMissing(notes, merged.fd);
  const paths = notes.missingLinks.map(({ path }) => path);
  return { kind: "mended", usage: usageOf(own.fd, paths) };
}

/** What the copied targets of links take, each once. */
function usageOf(rootFd: number, paths: readonly string[]): LayerUsage {
  const copied = new Map<bigint, number>();
  for (const path of paths) {
    const found = statAt(rootFd, pathArg(path));
    if (found !== undefined) copied.set(found.inode, found.allocatedBytes);
  }
  return { sizeBytes: [...copied.values()].reduce((all, bytes) => all + bytes, 0), inodes: copied.size };
}

/** The layer as the upper directory of an overlay. Only overlayfs can rebase, so both sides are its mounts. */
function overlayOver(upper: readonly Mount[], below: readonly Mount[]): Mount {
  const directory = writableDirectory(upper);
  const [nearest] = below;
  const lower = nearest?.type === "overlay" ? lowerDirectories(below) : [nearest?.source ?? ""];
  if (directory === undefined || lower.includes("")) throw new Error("only a layer of overlayfs can be rebased");
  return {
    type: "overlay",
    source: "overlay",
    options: [
      ...overlayOptions(),
      `workdir=${join(dirname(directory), "work")}`,
      `upperdir=${directory}`,
      `lowerdir=${lower.join(":")}`,
    ],
  };
}
