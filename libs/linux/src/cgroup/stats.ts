/** What a control group uses. Each figure is undefined where the host has no such controller or the group is gone. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { CgroupLayout } from "./layout.ts";

export interface CgroupStats {
  readonly memoryBytes: number | undefined;
  /** Without the page cache that the kernel could drop at once; what Kubernetes calls the working set. */
  readonly memoryWorkingSetBytes: number | undefined;
  /** Undefined for no limit. */
  readonly memoryLimitBytes: number | undefined;
  /** Since the group was made. */
  readonly cpuSeconds: number | undefined;
  readonly throttledSeconds: number | undefined;
  readonly pids: number | undefined;
  /** Processes that the kernel killed for want of memory in the group (v1: and none below it). */
  readonly oomKills: number | undefined;
}

export function cgroupStats(layout: CgroupLayout, path: string): CgroupStats {
  const at = (controller: string): Group => new Group(layout, controller, path);
  return {
    ...memoryStats(at("memory")),
    ...cpuStats(at("cpu"), at("cpuacct")),
    pids: at("pids").number("pids.current"),
  };
}

/** Only the count of kernel OOM kills: what a watcher of a running task polls. */
export function cgroupOomKills(layout: CgroupLayout, path: string): number | undefined {
  return oomKills(new Group(layout, "memory", path));
}

function oomKills(memory: Group): number | undefined {
  return memory.v2 ? memory.field("memory.events", "oom_kill") : memory.field("memory.oom_control", "oom_kill");
}

function memoryStats(memory: Group): Omit<CgroupStats, "cpuSeconds" | "throttledSeconds" | "pids"> {
  const used = memory.number(memory.v2 ? "memory.current" : "memory.usage_in_bytes");
  const inactive = memory.field("memory.stat", memory.v2 ? "inactive_file" : "total_inactive_file") ?? 0;
  const limit = memory.number(memory.v2 ? "memory.max" : "memory.limit_in_bytes");
  return {
    memoryBytes: used,
    memoryWorkingSetBytes: used === undefined ? undefined : Math.max(0, used - inactive),
    // v1 writes "no limit" as the largest multiple of a page.
    memoryLimitBytes: limit === undefined || limit >= 2 ** 62 ? undefined : limit,
    oomKills: oomKills(memory),
  };
}

function cpuStats(cpu: Group, cpuacct: Group): Pick<CgroupStats, "cpuSeconds" | "throttledSeconds"> {
  if (cpu.v2) {
    return {
      cpuSeconds: scaled(cpu.field("cpu.stat", "usage_usec"), 1e6),
      throttledSeconds: scaled(cpu.field("cpu.stat", "throttled_usec"), 1e6),
    };
  }
  return {
    cpuSeconds: scaled(cpuacct.number("cpuacct.usage"), 1e9),
    throttledSeconds: scaled(cpu.field("cpu.stat", "throttled_time"), 1e9),
  };
}

function scaled(value: number | undefined, unit: number): number | undefined {
  return value === undefined ? undefined : value / unit;
}

/** The files of one controller for one group. */
class Group {
  readonly v2: boolean;
  readonly #directory: string | undefined;

  constructor(layout: CgroupLayout, controller: string, path: string) {
    // On v2, cpu.stat exists in every group, with or without the cpu controller.
    const root = layout.controllers.get(controller) ?? (layout.mode === "v2" ? layout.unified : undefined);
    this.v2 = root !== undefined && root === layout.unified;
    this.#directory = root === undefined ? undefined : join(root, path);
  }

  /** `max` and anything that is no number are undefined. */
  number(file: string): number | undefined {
    const text = this.#read(file)?.trim();
    return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
  }

  /** A line `key value`. */
  field(file: string, key: string): number | undefined {
    const line = this.#read(file)
      ?.split("\n")
      .find((text) => text.startsWith(`${key} `));
    return line === undefined ? undefined : Number(line.slice(key.length + 1));
  }

  #read(file: string): string | undefined {
    if (this.#directory === undefined) return undefined;
    try {
      return readFileSync(join(this.#directory, file), "utf8");
    } catch {
      return undefined; // gone, or not accounted by this kernel: both are "unknown" to the reader
    }
  }
}
