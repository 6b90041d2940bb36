/** Which capabilities a container gets: the default set of Docker and containerd, changed as asked, never more than the agent's own. */
import { StatusError, type FieldViolation } from "@berth/base";

/** Every capability of Linux, by bit. */
export const CAPABILITIES = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
] as const;

const DEFAULT_SET: readonly string[] = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_RAW",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

export interface CapabilityRequest {
  readonly privileged: boolean;
  readonly add: readonly string[];
  readonly drop: readonly string[];
  /** What the agent itself holds: nothing beyond it can be given. */
  readonly held: readonly string[];
}

/**
 * The names to put into the bounding, effective and permitted sets, in the kernel's order.
 * @throws INVALID_ARGUMENT for unknown names; FAILED_PRECONDITION `CAPABILITY_NOT_HELD` for one named in `add` that the
 * agent lacks (defaults and `ALL` are cut silently: nobody asked for that one by name).
 */
export function chooseCapabilities(request: CapabilityRequest): readonly string[] {
  const add = normalise(request.add, "spec.capabilities.add");
  const drop = normalise(request.drop, "spec.capabilities.drop");
  const held = new Set(request.held);
  const wanted = new Set<string>(request.privileged || add.includes("ALL") ? held : DEFAULT_SET);
  if (drop.includes("ALL")) wanted.clear();
  for (const name of drop) wanted.delete(name);
  if (drop.includes("ALL") && add.includes("ALL")) for (const name of held) wanted.add(name);
  for (const [index, name] of add.entries()) {
    if (name === "ALL") continue;
    if (!held.has(name)) throw notHeld(name, index);
    wanted.add(name);
  }
  return CAPABILITIES.filter((name) => wanted.has(name) && held.has(name));
}

/** The capabilities in a hexadecimal mask as /proc/PID/status shows it. */
export function capabilitiesOfMask(hex: string): readonly string[] {
  const mask = BigInt(`0x${hex}`);
  return CAPABILITIES.filter((_, bit) => ((mask >> BigInt(bit)) & 1n) === 1n);
}

function normalise(names: readonly string[], field: string): readonly string[] {
  const known: readonly string[] = CAPABILITIES;
  const violations: FieldViolation[] = [];
  const result = names.map((given, index) => {
    const upper = given.toUpperCase();
    if (upper === "ALL") return upper;
    const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (!known.includes(name)) {
      violations.push({ field: `${field}[${index}]`, description: `unknown capability ${JSON.stringify(given)}` });
    }
    return name;
  });
  if (violations.length > 0) throw StatusError.invalid(violations);
  return result;
}

function notHeld(name: string, index: number): StatusError {
  const field = `spec.capabilities.add[${index}]`;
  return new StatusError("FAILED_PRECONDITION", `${field}: the agent itself does not have ${name}`, {
    reason: "CAPABILITY_NOT_HELD",
    violations: [{ field, description: `the agent itself does not have ${name}` }],
  });
}
