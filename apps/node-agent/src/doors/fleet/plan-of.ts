/** The fleet's ContainerSpec as the engine's plan. Defaults of the node are filled in here; nothing is looked up on the host. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { parseCpu, parseDisk, parseMemory } from "@berth/model";
import type { ContainerSpec, TaskAssignment, VolumeMount } from "@berth/proto";
import type { ContainerConfig, ContainerMount, ContainerResources } from "@berth/runtime";
import type { ContainerPlan } from "../../engine/plan.ts";
import { healthOf } from "./health-of.ts";

export interface NodeDefaults {
  readonly handler: string;
  readonly handlers: readonly string[];
  readonly snapshotter: string;
  readonly snapshotters: readonly string[];
}

const DEFAULT_GRACE_MS = 10_000;

/** A plan, or the error that says why this node can never run it. */
export function planOf(task: TaskAssignment, defaults: NodeDefaults): ContainerPlan | StatusError {
  const spec = task.container;
  if (spec === undefined) return new StatusError("INVALID_ARGUMENT", `task ${task.name} has no container`);
  try {
    return {
      image: spec.image,
      snapshotter: choose("snapshotter", spec.snapshotter, defaults.snapshotter, defaults.snapshotters),
      handler: choose("runtimeHandler", spec.runtimeHandler, defaults.handler, defaults.handlers),
      container: containerConfig(spec),
      hostname: spec.hostname === "" ? task.name.slice(0, 63) : spec.hostname,
      network: networkOf(spec),
      ...(spec.resources?.disk ? { diskBytes: parseDisk(spec.resources.disk) } : {}),
      ...(spec.volatileRootfs ? { volatileRootfs: true } : {}),
      ...(spec.stop === undefined || spec.stop.signal === "" ? {} : { stopSignal: signalOf(spec.stop.signal) }),
      ...(task.fence ? { fence: true } : {}),
      stopGraceMs: spec.stop?.grace === undefined ? DEFAULT_GRACE_MS : Math.max(0, durationMs(spec.stop.grace)),
      ...healthOf(spec),
      ...(spec.activeDeadline === undefined ? {} : { activeDeadlineMs: durationMs(spec.activeDeadline) }),
    };
  } catch (error) {
    return StatusError.from(error);
  }
}

function choose(field: string, wanted: string, fallback: string, known: readonly string[]): string {
  const name = wanted === "" ? fallback : wanted;
  if (known.includes(name)) return name;
  const text = `spec.${field}: this node has no ${JSON.stringify(name)}; it has ${known.join(", ")}`;
  throw new StatusError("FAILED_PRECONDITION", text, { reason: "HANDLER_UNKNOWN" });
}

function signalOf(signal: string): string {
  return /^\d+$/.test(signal) || signal.startsWith("SIG") ? signal : `SIG${signal}`;
}

function containerConfig(spec: ContainerSpec): ContainerConfig {
  const { security } = spec;
  const resources = resourcesOf(spec);
  return {
    ...(spec.command.length === 0 ? {} : { command: spec.command }),
    ...(spec.args.length === 0 ? {} : { args: spec.args }),
    env: spec.env.map(({ name, value }) => ({ name, value })),
    ...(spec.workdir === "" ? {} : { workingDir: spec.workdir }),
    ...(spec.user === "" ? {} : { user: spec.user }),
    mounts: spec.mounts.map(mountOf),
    capabilities: { add: security?.addCapabilities ?? [], drop: security?.dropCapabilities ?? [] },
    privileged: security?.privileged ?? false,
    noNewPrivileges: !(security?.allowPrivilegeEscalation === true || security?.privileged === true),
    readOnlyRootfs: security?.readOnlyRootfs ?? false,
    ...(spec.tty ? { terminal: true } : {}),
    ...(spec.stdin ? { input: spec.stdinOnce ? ("once" as const) : ("open" as const) } : {}),
    ...(security?.seccomp === "unconfined" ? { seccomp: "unconfined" as const } : {}),
    ...(resources === undefined ? {} : { resources }),
  };
}

function mountOf(mount: VolumeMount): ContainerMount {
  if (mount.type === "tmpfs") {
    const size = mount.size === "" ? {} : { sizeBytes: parseMemory(mount.size) };
    return { type: "tmpfs", destination: mount.target, readOnly: mount.readOnly, ...size };
  }
  return { type: "bind", source: mount.source, destination: mount.target, readOnly: mount.readOnly };
}

function resourcesOf({ resources }: ContainerSpec): ContainerResources | undefined {
  if (resources === undefined) return undefined;
  const millis = resources.cpu === "" ? undefined : parseCpu(resources.cpu);
  return {
    // The kernel takes no quota below a millisecond per period.
    ...(millis === undefined ? {} : { cpuQuotaMicros: Math.max(1_000, millis * 100), cpuPeriodMicros: 100_000 }),
    ...(millis === undefined ? {} : { cpuShares: Math.max(2, Math.round((millis * 1024) / 1000)) }),
    ...(resources.memory === "" ? {} : { memoryBytes: parseMemory(resources.memory) }),
    ...(resources.pids === 0n ? {} : { pids: Number(resources.pids) }),
  };
}

function networkOf({ network }: ContainerSpec): ContainerPlan["network"] {
  const mode = network?.mode === "host" || network?.mode === "none" ? network.mode : "bridge";
  const ports = (network?.ports ?? []).map(({ containerPort, hostPort, protocol }) => ({
    containerPort,
    hostPort,
    protocol: protocol === "udp" ? ("udp" as const) : ("tcp" as const),
  }));
  return { mode, ports };
}
