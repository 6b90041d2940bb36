/** What can be said of a {@link ContainerConfig} without looking at the host: every fault at once, each with its field. */
import { posix } from "node:path";
import { StatusError, type FieldViolation } from "@berth/base";
import type { ContainerConfig, ContainerMount } from "./container-config.ts";
import type { HostFacts } from "./host-facts.ts";

/** @throws INVALID_ARGUMENT with all violations. */
export function validateContainer(container: ContainerConfig, host: HostFacts): void {
  const violations = [
    ...strings(container),
    ...(container.mounts ?? []).flatMap(mountFaults),
    ...duplicateDestinations(container.mounts ?? []),
    ...deviceFaults(container),
    ...rlimitFaults(container, host),
    ...resourceFaults(container),
    ...securityModuleFaults(container, host),
  ];
  if (violations.length > 0) throw StatusError.invalid(violations);
}

function fault(field: string, description: string): FieldViolation {
  return { field: `spec.${field}`, description };
}

function strings(container: ContainerConfig): readonly FieldViolation[] {
  const noNul = (field: string, text: string): readonly FieldViolation[] =>
    text.includes("\0") ? [fault(field, "must not contain a NUL byte")] : [];
  return [
    ...(container.command ?? []).flatMap((text, i) => noNul(`command[${i}]`, text)),
    ...(container.args ?? []).flatMap((text, i) => noNul(`args[${i}]`, text)),
    ...(container.env ?? []).flatMap(({ name, value }, i) => [
      ...(name === "" || name.includes("=") ? [fault(`env[${i}].name`, "must be non-empty and without '='")] : []),
      ...noNul(`env[${i}].name`, name),
      ...noNul(`env[${i}].value`, value),
    ]),
    ...(container.command?.length === 0 ? [fault("command", "must not be empty")] : []),
    ...(container.command?.[0] === "" ? [fault("command[0]", "must not be empty")] : []),
    ...absolute("workingDir", container.workingDir),
    ...(container.hostname !== undefined && !/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62})$/.test(container.hostname)
      ? [fault("hostname", "must be 1-63 letters, digits, '-' and '.'")]
      : []),
    ...(container.additionalGroups ?? []).flatMap((gid, i) =>
      isWhole(gid) && gid < 2 ** 32 - 1 ? [] : [fault(`additionalGroups[${i}]`, "must be a group id")],
    ),
  ];
}

function absolute(field: string, path: string | undefined): readonly FieldViolation[] {
  if (path === undefined) return [];
  if (!path.startsWith("/")) return [fault(field, "must be an absolute path")];
  return path.includes("\0") ? [fault(field, "must not contain a NUL byte")] : [];
}

function mountFaults(mount: ContainerMount, index: number): readonly FieldViolation[] {
  const at = `mounts[${index}]`;
  const destination = posix.normalize(mount.destination);
  const faults = [...absolute(`${at}.destination`, mount.destination)];
  if (destination === "/") faults.push(fault(`${at}.destination`, "must not be the root"));
  if (/^\/proc(\/|$)/.test(destination)) faults.push(fault(`${at}.destination`, "must not be in /proc"));
  switch (mount.type) {
    case "bind":
      return [...faults, ...absolute(`${at}.source`, mount.source)];
    case "tmpfs":
      if (mount.sizeBytes !== undefined && !isPositive(mount.sizeBytes)) {
        faults.push(fault(`${at}.sizeBytes`, "must be a whole number above 0"));
      }
      if (mount.mode !== undefined && (!isWhole(mount.mode) || mount.mode > 0o7777)) {
        faults.push(fault(`${at}.mode`, "must be a file mode"));
      }
      return faults;
  }
}

function duplicateDestinations(mounts: readonly ContainerMount[]): readonly FieldViolation[] {
  const seen = new Map<string, number>();
  return mounts.flatMap((mount, index) => {
    const destination = posix.normalize(mount.destination).replace(/(?<=.)\/$/, "");
    const first = seen.get(destination);
    if (first === undefined) seen.set(destination, index);
    return first === undefined ? [] : [fault(`mounts[${index}].destination`, `is that of mounts[${first}], too`)];
  });
}

function deviceFaults(container: ContainerConfig): readonly FieldViolation[] {
  return (container.devices ?? []).flatMap((device, i) => [
    ...absolute(`devices[${i}].hostPath`, device.hostPath),
    ...absolute(`devices[${i}].containerPath`, device.containerPath),
    ...(device.permissions === undefined || /^(?!.*(.).*\1)[rwm]{1,3}$/.test(device.permissions)
      ? []
      : [fault(`devices[${i}].permissions`, "must be of r, w and m, each at most once")]),
  ]);
}

/** A hard limit above the agent's own needs CAP_SYS_RESOURCE; the runtime would fail late and unclearly. */
function rlimitFaults(container: ContainerConfig, host: HostFacts): readonly FieldViolation[] {
  const mayRaise = host.capabilities.includes("CAP_SYS_RESOURCE");
  return (container.rlimits ?? []).flatMap((limit, i) => {
    const at = `rlimits[${i}]`;
    const bound = host.hardLimits.get(limit.type);
    if (bound === undefined) return [fault(`${at}.type`, `unknown limit ${JSON.stringify(limit.type)}`)];
    if (!isWhole(limit.soft) || !isWhole(limit.hard)) return [fault(at, "limits must be whole numbers")];
    if (limit.soft > limit.hard) return [fault(`${at}.soft`, "must not be above hard")];
    if (limit.hard > bound && !mayRaise) {
      return [fault(`${at}.hard`, `is above the agent's own hard limit of ${bound}`)];
    }
    return [];
  });
}

function resourceFaults(container: ContainerConfig): readonly FieldViolation[] {
  const { cpuQuotaMicros, cpuPeriodMicros, cpuShares, memoryBytes, pids } = container.resources ?? {};
  const faults: FieldViolation[] = [];
  const check = (name: string, value: number | undefined, min: number, max: number): void => {
    if (value === undefined || (isWhole(value) && value >= min && value <= max)) return;
    faults.push(fault(`resources.${name}`, `must be a whole number from ${min} to ${max}`));
  };
  check("cpuQuotaMicros", cpuQuotaMicros, 1000, Number.MAX_SAFE_INTEGER);
  check("cpuPeriodMicros", cpuPeriodMicros, 1000, 1_000_000);
  check("cpuShares", cpuShares, 2, 262_144);
  check("memoryBytes", memoryBytes, 6 * 1024 * 1024, Number.MAX_SAFE_INTEGER);
  check("pids", pids, 1, 4_194_304);
  return faults;
}

function securityModuleFaults(container: ContainerConfig, host: HostFacts): readonly FieldViolation[] {
  const faults: FieldViolation[] = [];
  if (container.apparmorProfile !== undefined && container.apparmorProfile !== "unconfined" && !host.apparmor) {
    faults.push(fault("apparmorProfile", "this host has no AppArmor"));
  }
  if (container.selinuxLabel !== undefined && !host.selinux) {
    faults.push(fault("selinuxLabel", "this host has no SELinux"));
  }
  if (typeof container.seccomp === "object") faults.push(...absolute("seccomp.file", container.seccomp.file));
  return faults;
}

function isWhole(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isPositive(value: number): boolean {
  return isWhole(value) && value > 0;
}
