/**
 * From an image's config and a container's wishes to an OCI runtime spec.
 *
 * Owns the order of the parts and the defaults; each part is in its own file. Reads the image's /etc/passwd and /etc/group,
 * the seccomp profile and the device nodes asked for; everything else is a function of its input.
 */
import type { OciImageConfig } from "@berth/model";
import { chooseCapabilities } from "./capabilities.ts";
import type { ContainerConfig, ContainerResources } from "./container-config.ts";
import { containerDevices, type Devices } from "./devices.ts";
import type { HostFacts } from "./host-facts.ts";
import { imageFileReader } from "./image-file.ts";
import { containerMounts, rootfsPropagation, type EtcFiles } from "./mounts.ts";
import type { OciLinux, OciNamespace, OciProcess, OciResources, OciSeccomp, OciSpec } from "./oci-spec.ts";
import { processArgs, processCwd, processEnv } from "./process.ts";
import { DEFAULT_SECCOMP_PROFILE, readSeccompProfile, resolveSeccomp } from "./seccomp.ts";
import { resolveUser } from "./user.ts";
import { validateContainer } from "./validate.ts";

export interface SpecInput {
  readonly image: OciImageConfig;
  readonly container: ContainerConfig;
  /** The mounted root file system, absolute. */
  readonly rootfs: string;
  /** Used when the container names none. */
  readonly hostname: string;
  /** Absent: the agent's own network. */
  readonly netnsPath?: string;
  /** Absolute within the hierarchy, e.g. `/berth/shop/web`. */
  readonly cgroupPath: string;
  readonly etc?: EtcFiles;
  readonly host: HostFacts;
  /** The profile that `default` means; Debian's by default. */
  readonly seccompProfile?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** @throws INVALID_ARGUMENT naming fields under `spec.`; FAILED_PRECONDITION for what this host cannot give. */
export async function generateSpec(input: SpecInput): Promise<OciSpec> {
  const { container, host } = input;
  validateContainer(container, host);
  const capabilities = chooseCapabilities({
    privileged: container.privileged === true,
    add: container.capabilities?.add ?? [],
    drop: container.capabilities?.drop ?? [],
    held: host.capabilities,
  });
  const devices = await containerDevices(container);
  const hostname = container.hostname ?? input.hostname;
  return {
    ociVersion: "1.0.2",
    process: await ociProcess(input, hostname, capabilities),
    root: { path: input.rootfs, readonly: container.readOnlyRootfs === true },
    hostname,
    mounts: containerMounts(container, input.etc ?? {}),
    annotations: { ...input.annotations, ...container.annotations },
    linux: await ociLinux(input, devices, capabilities),
  };
}

async function ociProcess(input: SpecInput, hostname: string, capabilities: readonly string[]): Promise<OciProcess> {
  const { image, container, host } = input;
  const user = container.user ?? image.config?.User ?? "";
  const apparmor = container.apparmorProfile;
  return {
    terminal: container.terminal === true,
    user: await resolveUser(user, "spec.user", imageFileReader(input.rootfs), container.additionalGroups),
    args: processArgs(image, container),
    env: processEnv(image, container, hostname),
    cwd: processCwd(image, container),
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    rlimits: container.rlimits ?? [],
    noNewPrivileges: container.noNewPrivileges ?? container.privileged !== true,
    ...(host.apparmor && apparmor !== undefined ? { apparmorProfile: apparmor } : {}),
    ...(host.selinux && container.selinuxLabel !== undefined ? { selinuxLabel: container.selinuxLabel } : {}),
  };
}

async function ociLinux(input: SpecInput, devices: Devices, capabilities: readonly string[]): Promise<OciLinux> {
  const { container } = input;
  const privileged = container.privileged === true;
  const seccomp = await containerSeccomp(input, capabilities);
  const propagation = rootfsPropagation(container);
  return {
    namespaces: namespaces(input.netnsPath),
    cgroupsPath: input.cgroupPath,
    resources: ociResources(container.resources ?? {}, devices),
    devices: devices.nodes,
    ...(seccomp === undefined ? {} : { seccomp }),
    maskedPaths: container.maskedPaths ?? (privileged ? [] : MASKED_PATHS),
    readonlyPaths: container.readonlyPaths ?? (privileged ? [] : READONLY_PATHS),
    ...(propagation === undefined ? {} : { rootfsPropagation: propagation }),
  };
}

function namespaces(netnsPath: string | undefined): readonly OciNamespace[] {
  const own: OciNamespace[] = [{ type: "pid" }, { type: "ipc" }, { type: "uts" }, { type: "mount" }];
  return netnsPath === undefined ? own : [...own, { type: "network", path: netnsPath }];
}

function ociResources(wanted: ContainerResources, devices: Devices): OciResources {
  const { cpuShares, cpuQuotaMicros, cpuPeriodMicros, memoryBytes, pids } = wanted;
  const period = cpuPeriodMicros ?? (cpuQuotaMicros === undefined ? undefined : 100_000);
  return {
    devices: devices.rules,
    cpu: {
      ...(cpuShares === undefined ? {} : { shares: cpuShares }),
      ...(cpuQuotaMicros === undefined ? {} : { quota: cpuQuotaMicros }),
      ...(period === undefined ? {} : { period }),
    },
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes, swap: memoryBytes } }),
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
  };
}

async function containerSeccomp(input: SpecInput, capabilities: readonly string[]): Promise<OciSeccomp | undefined> {
  const wanted = input.container.seccomp ?? (input.container.privileged === true ? "unconfined" : "default");
  if (wanted === "unconfined") return undefined;
  const profile = await readSeccompProfile(
    wanted === "default" ? (input.seccompProfile ?? DEFAULT_SECCOMP_PROFILE) : wanted.file,
  );
  return resolveSeccomp(profile, capabilities, input.host);
}

/** containerd's oci.populateDefaultUnixSpec and moby's defaults. */
const MASKED_PATHS = [
  "/proc/asound",
  "/proc/acpi",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];

const READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
