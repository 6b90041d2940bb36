/** What a fleet leaves on this machine, seen from outside: processes, mounts, cgroups, links. For `down` and its tests. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { detectCgroupLayout, mountsUnder, type CgroupLayout } from "@berth/linux";
import { hostsId } from "@berth/testkit/hosts";
import { identify, type ProcessIdentity } from "@berth/testkit/servers";
import type { Layout } from "./layout.ts";
import { cgroupPrefix } from "./programs.ts";
import { remembered, rememberedNames } from "./state.ts";

export interface Traces {
  readonly processes: readonly { readonly identity: ProcessIdentity; readonly command: string }[];
  readonly mounts: readonly string[];
  readonly cgroups: readonly string[];
  readonly links: readonly string[];
}

export function findTraces(layout: Layout): Traces {
  return {
    processes: findProcesses(layout),
    mounts: mountsUnder(layout.dir).map((mount) => mount.target),
    cgroups: fleetCgroups(layout).flatMap(({ roots, path }) => roots.map((root) => join(root, path))),
    links: readdirSync("/sys/class/net").filter((name) => name.includes(hostsId(layout.hosts))),
  };
}

/** The fleet's cgroups at the top of every hierarchy, each once, with the hierarchies that have it. */
export function fleetCgroups(layout: Layout): { readonly path: string; readonly roots: readonly string[] }[] {
  const prefix = cgroupPrefix(hostsId(layout.hosts));
  const cgroups: CgroupLayout = detectCgroupLayout();
  const found = new Map<string, string[]>();
  for (const root of cgroups.roots) {
    for (const name of readdirSync(root).filter((each) => each.startsWith(prefix))) {
      found.set(name, [...(found.get(name) ?? []), root]);
    }
  }
  return [...found].map(([path, roots]) => ({ path, roots }));
}

/**
 * Processes of the fleet: remembered ones, those in its cgroups, supervisors of its containers, and whatever runs in its
 * hosts' network namespaces. A shell of somebody who looks at a log is none of them.
 */
function findProcesses(layout: Layout): { identity: ProcessIdentity; command: string }[] {
  const known = new Set(rememberedNames(layout).map((name) => remembered(layout, name)?.pid));
  const prefix = cgroupPrefix(hostsId(layout.hosts));
  const namespaces = new Set(mountsUnder(layout.hosts).map((mount) => mount.root));
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) => {
      if (known.has(pid)) return true;
      const command = read(pid, "cmdline");
      if (/^(\S*\/)?(conmon|runc|crun)$/.test(command.split("\0")[0] ?? "") && command.includes(`${layout.dir}/`))
        return true;
      return read(pid, "cgroup").includes(`/${prefix}`) || namespaces.has(networkNamespace(pid));
    })
    .map((pid) => ({ identity: identify(pid), command: read(pid, "cmdline").replaceAll("\0", " ").trim() }))
    .filter((found): found is { identity: ProcessIdentity; command: string } => found.identity !== undefined);
}

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}

/** As mountinfo names it in the root field of a namespace's bind mount: `net:[4026532281]`. */
function networkNamespace(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return "";
  }
}
