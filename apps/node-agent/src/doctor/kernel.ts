/** What the kernel offers: features, cgroups, and the snapshotters that need it. */
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { detectCgroupLayout } from "@berth/linux";
import { probeBtrfs, probeNative, probeOverlayfs, probeProxy, probeZfs, type Probe } from "@berth/snapshots";
import type { Check, Finding } from "./finding.ts";

/** openat2 (5.6) is what keeps archives beneath their root; syncfs reports failed writes since 5.8. */
const OLDEST_KERNEL = [5, 8] as const;

export const kernelCheck: Check = () => {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  const old = major < OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor < OLDEST_KERNEL[1]);
  const version: Finding = old
    ? {
        check: "kernel/version",
        status: "fail",
        detail: `${release()} is older than ${OLDEST_KERNEL.join(".")}, which openat2 and a reliable syncfs need`,
        remedy: "boot a newer kernel",
      }
    : { check: "kernel/version", status: "ok", detail: release() };
  const features = [
    feature("namespaces/net", existsSync("/proc/self/ns/net"), "fail", "network namespaces"),
    feature("namespaces/pid", existsSync("/proc/self/ns/pid"), "fail", "process namespaces"),
    feature("namespaces/user", existsSync("/proc/self/ns/user"), "warn", "user namespaces"),
    feature("seccomp", hasSeccomp(), "warn", "seccomp filters, so containers run without the default profile"),
  ];
  return [version, ...features];
};

function feature(name: string, has: boolean, missing: "warn" | "fail", what: string): Finding {
  const check = `kernel/${name}`;
  if (has) return { check, status: "ok", detail: "there" };
  return { check, status: missing, detail: `this kernel has no ${what}`, remedy: "boot a kernel built with it" };
}

function hasSeccomp(): boolean {
  try {
    return /^Seccomp:/m.test(readFileSync("/proc/self/status", "utf8"));
  } catch {
    return false;
  }
}

const CONTROLLERS = [
  ["cpu", "warn", "limits of processor time do not hold"],
  ["memory", "warn", "limits of memory do not hold"],
  ["pids", "warn", "limits of processes do not hold"],
] as const;

export const cgroupCheck: Check = () => {
  const layout = detectCgroupLayout();
  if (layout.mode === "none") {
    const detail = "no cgroup hierarchy is mounted, so no container can be run";
    return [{ check: "cgroups/mode", status: "fail", detail, remedy: "mount -t cgroup2 none /sys/fs/cgroup" }];
  }
  const missing = CONTROLLERS.filter(([name]) => !layout.controllers.has(name));
  return [
    { check: "cgroups/mode", status: "ok", detail: layout.mode },
    ...missing.map(([name, status, detail]): Finding => {
      return {
        check: `cgroups/${name}`,
        status,
        detail: `${detail}: controller ${name} is missing`,
        remedy: "enable it at boot",
      };
    }),
  ];
};

/** Tries each of our own on the very directory it would use, and asks those of others. */
export const snapshottersCheck: Check = async ({ config }) => {
  const findings: Finding[] = [];
  for (const [name, probe] of Object.entries(PROBES)) {
    // One after the other: each removes the directories that it made.
    const result = await withDirectory(join(config.root, "snapshots", name), probe);
    findings.push(snapshotterFinding(name, result, config.snapshotter, name === "btrfs" || name === "zfs"));
  }
  for (const [name, { snapshotter, ...proxy }] of Object.entries(config.proxySnapshotters)) {
    const result = await probeProxy({ ...proxy, name, ...(snapshotter === undefined ? {} : { snapshotter }) });
    findings.push(snapshotterFinding(name, result, config.snapshotter, false));
  }
  return findings;
};

const PROBES = { overlayfs: probeOverlayfs, native: probeNative, btrfs: probeBtrfs, zfs: probeZfs };

/** @param rare most hosts have none of it, and that is no cause for concern */
function snapshotterFinding(name: string, result: Probe, preferred: string, rare: boolean): Finding {
  const check = `snapshotters/${name}`;
  if (result.usable) return { check, status: "ok", detail: "usable" };
  const detail = `cannot be used here: ${result.reason}`;
  if (name === preferred) {
    const remedy = "mend that, or set snapshotter in the configuration to one that is usable";
    return { check, status: "fail", detail, remedy };
  }
  if (rare) return { check, status: "ok", detail };
  return { check, status: "warn", detail, remedy: "none needed, unless workloads ask for it" };
}

/** A probe makes its directory; one that was not there before does not stay. */
async function withDirectory<T>(directory: string, probe: (directory: string) => T | Promise<T>): Promise<T> {
  const made = mkdirSync(directory, { recursive: true, mode: 0o711 });
  try {
    return await probe(directory);
  } finally {
    if (made !== undefined) removeUpTo(directory, made);
  }
}

function removeUpTo(directory: string, first: string): void {
  for (let at = directory; ; at = join(at, "..")) {
    try {
      rmdirSync(at);
    } catch {
      // Somebody uses it by now.
      return;
    }
    if (at === first) return;
  }
}
