/** Finding processes that are no children of ours: by their name, their arguments or their cgroup. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Processes with this text among their arguments; of this name (as in /proc/PID/comm) where one is given. */
export function processesNaming(text: string, comm?: string): number[] {
  const pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  return pids.filter((pid) => {
    try {
      if (comm !== undefined && readFileSync(`/proc/${pid}/comm`, "utf8").trim() !== comm) return false;
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(text);
    } catch {
      return false; // it has ended
    }
  });
}

/** Processes in a cgroup's directory. */
export function processesIn(cgroup: string): number[] {
  return readFileSync(join(cgroup, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
}
