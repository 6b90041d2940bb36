/** Can btrfs snapshots work here? Answered by making a subvolume and a snapshot of it. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { createSubvolume, destroySubvolume, diskInfo, isSubvolume, snapshotSubvolume } from "@berth/linux";
import { unusable, type Probe } from "../probe.ts";

/** Never throws: what fails is the reason. Makes `root` if it is missing. */
export function probe(root: string): Probe {
  let dir: string | undefined;
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
    const { fsType } = diskInfo(root);
    if (fsType !== "btrfs") return unusable(`its directory ${JSON.stringify(root)} is on ${fsType}, not on btrfs`);
    dir = mkdtempSync(join(root, "probe-"));
    createSubvolume(join(dir, "one"));
    snapshotSubvolume(join(dir, "one"), join(dir, "two"));
    return { usable: true };
  } catch (error) {
    const { reason, message } = StatusError.from(error);
    return unusable(reason === "EPERM" ? "making subvolumes is not permitted (needs CAP_SYS_ADMIN)" : message);
  } finally {
    if (dir !== undefined) clear(dir);
  }
}

function clear(dir: string): void {
  try {
    for (const name of ["two", "one"]) if (isSubvolume(join(dir, name))) destroySubvolume(join(dir, name));
    rmSync(dir, { recursive: true, force: true });
  } catch {
    // The answer stands; the next probe uses another directory.
  }
}
