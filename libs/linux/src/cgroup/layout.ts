/**
 * Where this host keeps its cgroups: v1 (a hierarchy per controller), v2 (one for all), or hybrid (both at once; what v2
 * holds then depends on what v1 has taken).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { mounts, type MountInfo } from "../mountinfo.ts";

export interface CgroupLayout {
  readonly mode: "v1" | "hybrid" | "v2" | "none";
  /** Where v2 is mounted. */
  readonly unified: string | undefined;
  /** Controller → where its hierarchy is mounted. */
  readonly controllers: ReadonlyMap<string, string>;
  /** Every hierarchy's mount point once, `name=systemd` too: runtimes make groups in all of them. */
  readonly roots: readonly string[];
}

/** Everything that may be a v1 controller, as mount options of its hierarchy name it. */
const CONTROLLERS = new Set([
  "cpu",
  "cpuacct",
  "cpuset",
  "memory",
  "devices",
  "freezer",
  "net_cls",
  "net_prio",
  "blkio",
  "perf_event",
  "hugetlb",
  "pids",
  "rdma",
  "misc",
]);

/** Looks at the mount table; of several mounts of one hierarchy the first counts. */
export function detectCgroupLayout(table: readonly MountInfo[] = mounts()): CgroupLayout {
  const controllers = new Map<string, string>();
  const seen = new Set<string>();
  const roots = new Set<string>();
  let unified: string | undefined;
  for (const mount of table) {
    if (mount.fsType === "cgroup2" && unified === undefined) roots.add((unified = mount.target));
    if (mount.fsType !== "cgroup" || seen.has(mount.device)) continue;
    seen.add(mount.device);
    roots.add(mount.target);
    for (const option of mount.superOptions) {
      if (CONTROLLERS.has(option) && !controllers.has(option)) controllers.set(option, mount.target);
    }
  }
  const v1 = controllers.size > 0;
  if (unified !== undefined) {
    for (const controller of unifiedControllers(unified)) {
      if (!controllers.has(controller)) controllers.set(controller, unified);
    }
  }
  const mode = v1 ? (unified === undefined ? "v1" : "hybrid") : unified === undefined ? "none" : "v2";
  return { mode, unified, controllers, roots: [...roots] };
}

function unifiedControllers(root: string): string[] {
  try {
    return readFileSync(join(root, "cgroup.controllers"), "utf8").split(/\s+/).filter(Boolean);
  } catch {
    return []; // a mount table of a test, or a cgroup2 that is not mounted any more
  }
}
