/**
 * What names may look like. Each `xProblem` gives undefined for a good name and otherwise how it is wrong and how to write
 * it, as the end of a sentence whose subject is the field.
 */
import { suggest } from "./closest.ts";

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LABEL_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const DNS_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_.-]*$/;

/** An RFC 1123 label: namespaces, workloads, campaigns, tasks. */
export function nameProblem(text: string): string | undefined {
  if (LABEL.test(text)) return undefined;
  if (text.length > 63) return `is ${text.length} characters long; use at most 63`;
  if (/[A-Z]/.test(text)) return `has upper-case letters; write ${JSON.stringify(text.toLowerCase())}`;
  return 'is not a name: use lower-case letters, digits and "-", with a letter or digit first and last';
}

/** A node's name: a label without dots, because it is one token of NATS subjects and of queue names. */
export function nodeNameProblem(text: string): string | undefined {
  if (text.includes(".")) return `has dots; use the short host name, such as ${JSON.stringify(text.split(".", 1)[0])}`;
  return nameProblem(text);
}

/** `[prefix/]name`, as in Kubernetes: the prefix a DNS name, the name at most 63 characters. */
export function labelKeyProblem(text: string): string | undefined {
  const slash = text.indexOf("/");
  const prefix = slash < 0 ? undefined : text.slice(0, slash);
  if (prefix !== undefined && (prefix.length > 253 || !DNS_NAME.test(prefix))) {
    return 'is not a label key: before the "/" must stand a DNS name such as example.com';
  }
  if (LABEL_NAME.test(text.slice(slash + 1))) return undefined;
  return 'is not a label key: use at most 63 letters, digits, "-", "_" and ".", with a letter or digit first and last';
}

export function labelValueProblem(text: string): string | undefined {
  if (text === "" || LABEL_NAME.test(text)) return undefined;
  return 'is not a label value: use at most 63 letters, digits, "-", "_" and ".", with a letter or digit first and last';
}

export function envNameProblem(text: string): string | undefined {
  if (text.length <= 1024 && ENV_NAME.test(text)) return undefined;
  return 'is not an environment variable\'s name: use letters, digits, "_", "." and "-", with no digit first';
}

/** An absolute path that stays what it says: no `..`, no NUL. */
export function pathProblem(text: string): string | undefined {
  if (!text.startsWith("/")) return "is not an absolute path; begin it with /";
  if (text.includes("\0")) return "has a NUL character";
  if (text.length > 4095) return "is longer than 4095 characters";
  if (text.split("/").includes("..")) return 'has a ".." part; write the path without it';
  return undefined;
}

const SIGNALS = [
  "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
  "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
] as const; // prettier-ignore
const ALIASES: Readonly<Record<string, number>> = { IOT: 6, POLL: 29, CLD: 17 };
const RTMIN = 34;
const RTMAX = 64;

/** Linux's number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`; undefined for anything else. */
export function signalNumber(text: string): number | undefined {
  if (/^[0-9]{1,2}$/.test(text)) {
    const number = Number(text);
    return number >= 1 && number <= RTMAX ? number : undefined;
  }
  const name = text.toUpperCase().replace(/^SIG/, "");
  const index = (SIGNALS as readonly string[]).indexOf(name);
  if (index >= 0) return index + 1;
  if (Object.hasOwn(ALIASES, name)) return ALIASES[name];
  const realtime = /^RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?$/.exec(name);
  if (realtime === null) return undefined;
  const offset = Number(realtime[3] ?? 0) * (realtime[2] === "-" ? -1 : 1);
  const number = (realtime[1] === "MIN" ? RTMIN : RTMAX) + offset;
  return number >= RTMIN && number <= RTMAX ? number : undefined;
}

export function signalProblem(text: string): string | undefined {
  if (signalNumber(text) !== undefined) return undefined;
  return `is not a signal${suggest(
    text.toUpperCase(),
    SIGNALS.map((name) => `SIG${name}`),
  )}; write a name such as SIGTERM`;
}

/** Linux's capabilities in the order of their numbers. */
export const CAPABILITIES = [
  "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
  "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
  "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
  "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
  "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
] as const; // prettier-ignore

/** `CAP_NET_ADMIN` of `net_admin`, `NET_ADMIN` or `CAP_NET_ADMIN`; `ALL`; undefined for anything else. */
export function normaliseCapability(text: string): string | undefined {
  const upper = text.toUpperCase();
  if (upper === "ALL") return "ALL";
  const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
  return (CAPABILITIES as readonly string[]).includes(name) ? name : undefined;
}

export function capabilityProblem(text: string): string | undefined {
  if (normaliseCapability(text) !== undefined) return undefined;
  const name = text.toUpperCase().replace(/^(?!CAP_)/, "CAP_");
  return `is not a capability${suggest(name, CAPABILITIES)}; write a name such as CAP_NET_ADMIN, or ALL`;
}
