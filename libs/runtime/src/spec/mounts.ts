/** The mounts of a container: the kernel's file systems, the generated files of /etc, then the user's, which win. */
import { posix } from "node:path";
import type { ContainerConfig, ContainerMount } from "./container-config.ts";
import type { OciMount } from "./oci-spec.ts";

/** Files that the agent makes per container; absolute host paths, to be bound over the image's. */
export interface EtcFiles {
  readonly hosts?: string;
  readonly hostname?: string;
  readonly resolvConf?: string;
}

export function containerMounts(container: ContainerConfig, etc: EtcFiles): readonly OciMount[] {
  const own = (container.mounts ?? []).map(toOciMount);
  const taken = new Set(own.map((mount) => mount.destination));
  const base = [...kernelMounts(container.privileged === true), ...etcMounts(etc, container.readOnlyRootfs === true)];
  // Parents first, so that a mount on /data does not hide one on /data/cache; the sort is stable.
  return [
    ...base.filter((mount) => !taken.has(mount.destination)),
    ...own.sort((a, b) => depth(a.destination) - depth(b.destination)),
  ];
}

/** What the root must propagate for the mounts to have the propagation asked for. */
export function rootfsPropagation(container: ContainerConfig): "rshared" | "rslave" | undefined {
  const wanted = (container.mounts ?? []).map((mount) => (mount.type === "bind" ? mount.propagation : undefined));
  if (wanted.includes("bidirectional")) return "rshared";
  return wanted.includes("hostToContainer") ? "rslave" : undefined;
}

function kernelMounts(privileged: boolean): readonly OciMount[] {
  const access = privileged ? "rw" : "ro";
  return [
    mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
    mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
    mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
    mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access),
    mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", access),
  ];
}

function etcMounts(etc: EtcFiles, readOnly: boolean): readonly OciMount[] {
  const bind = (destination: string, source: string | undefined): readonly OciMount[] =>
    source === undefined ? [] : [mount(destination, "bind", source, "rbind", "rprivate", readOnly ? "ro" : "rw")];
  return [
    ...bind("/etc/hosts", etc.hosts),
    ...bind("/etc/hostname", etc.hostname),
    ...bind("/etc/resolv.conf", etc.resolvConf),
  ];
}

const PROPAGATION = { private: "rprivate", hostToContainer: "rslave", bidirectional: "rshared" } as const;

function toOciMount(wanted: ContainerMount): OciMount {
  const destination = posix.normalize(wanted.destination).replace(/(?<=.)\/$/, "");
  const access = wanted.readOnly === true ? "ro" : "rw";
  switch (wanted.type) {
    case "bind":
      return mount(destination, "bind", wanted.source, "rbind", PROPAGATION[wanted.propagation ?? "private"], access);
    case "tmpfs": {
      const size = wanted.sizeBytes === undefined ? [] : [`size=${wanted.sizeBytes}`];
      const mode = `mode=${(wanted.mode ?? 0o1777).toString(8)}`;
      return mount(destination, "tmpfs", "tmpfs", "nosuid", "nodev", mode, ...size, access);
    }
  }
}

function mount(destination: string, type: string, source: string, ...options: string[]): OciMount {
  return { destination, type, source, options };
}

function depth(path: string): number {
  return path.split("/").filter((part) => part !== "").length;
}
