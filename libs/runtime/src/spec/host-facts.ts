/** What this host allows a container to have; read once at start, given to spec generation as data so that tests can invent hosts. */
import { access, readFile } from "node:fs/promises";
import { hostPlatform } from "@berth/model";
import { capabilitiesOfMask } from "./capabilities.ts";

export interface HostFacts {
  /** GOARCH name. */
  readonly architecture: string;
  /** Kernel version, for seccomp rules that begin with one. */
  readonly kernel: { readonly major: number; readonly minor: number };
  /** The agent's own capabilities. */
  readonly capabilities: readonly string[];
  /** The agent's hard limits by `RLIMIT_…` name; Infinity for unlimited. */
  readonly hardLimits: ReadonlyMap<string, number>;
  readonly apparmor: boolean;
  readonly selinux: boolean;
}

export async function readHostFacts(): Promise<HostFacts> {
  const [status, limits, release, apparmor, selinux] = await Promise.all([
    readFile("/proc/self/status", "utf8"),
    readFile("/proc/self/limits", "utf8"),
    readFile("/proc/sys/kernel/osrelease", "utf8"),
    readFile("/sys/module/apparmor/parameters/enabled", "utf8").catch(() => "N"),
    access("/sys/fs/selinux/enforce").then(
      () => true,
      () => false,
    ),
  ]);
  const version = /^(\d+)\.(\d+)/.exec(release);
  return {
    architecture: hostPlatform.architecture,
    kernel: { major: Number(version?.[1] ?? 0), minor: Number(version?.[2] ?? 0) },
    capabilities: capabilitiesOfMask(/^CapPrm:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"),
    hardLimits: parseLimits(limits),
    apparmor: apparmor.trim() === "Y",
    selinux,
  };
}

const LIMIT_NAMES: Readonly<Record<string, string>> = {
  "Max cpu time": "RLIMIT_CPU",
  "Max file size": "RLIMIT_FSIZE",
  "Max data size": "RLIMIT_DATA",
  "Max stack size": "RLIMIT_STACK",
  "Max core file size": "RLIMIT_CORE",
  "Max resident set": "RLIMIT_RSS",
  "Max processes": "RLIMIT_NPROC",
  "Max open files": "RLIMIT_NOFILE",
  "Max locked memory": "RLIMIT_MEMLOCK",
  "Max address space": "RLIMIT_AS",
  "Max file locks": "RLIMIT_LOCKS",
  "Max pending signals": "RLIMIT_SIGPENDING",
  "Max msgqueue size": "RLIMIT_MSGQUEUE",
  "Max nice priority": "RLIMIT_NICE",
  "Max realtime priority": "RLIMIT_RTPRIO",
  "Max realtime timeout": "RLIMIT_RTTIME",
};

/** The hard limits in the text of /proc/PID/limits. */
export function parseLimits(text: string): ReadonlyMap<string, number> {
  const limits = new Map<string, number>();
  for (const line of text.split("\n").slice(1)) {
    const name = LIMIT_NAMES[line.slice(0, 26).trim()];
    const hard = line.slice(26).trim().split(/\s+/)[1];
    if (name === undefined || hard === undefined) continue;
    limits.set(name, hard === "unlimited" ? Infinity : Number(hard));
  }
  return limits;
}
