/**
 * Seccomp: a profile of moby's schema (`/usr/share/containers/seccomp.json`) resolved into what the OCI specification takes,
 * against the container's capabilities, the architecture and the kernel, as moby's `seccomp.setupSeccomp` does.
 */
import { readFile } from "node:fs/promises";
import { StatusError } from "@berth/base";
import type { HostFacts } from "./host-facts.ts";
import type { OciSeccomp, OciSyscall, OciSyscallArg } from "./oci-spec.ts";

export const DEFAULT_SECCOMP_PROFILE = "/usr/share/containers/seccomp.json";

interface Filter {
  readonly caps?: readonly string[] | null;
  readonly arches?: readonly string[] | null;
  readonly minKernel?: string | null;
}

interface ProfileRule {
  readonly name?: string;
  readonly names?: readonly string[] | null;
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly OciSyscallArg[] | null;
  readonly includes?: Filter | null;
  readonly excludes?: Filter | null;
}

/** Moby's profile schema, as far as it is read here. */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] | null }[];
  readonly architectures?: readonly string[];
  readonly syscalls: readonly ProfileRule[];
}

/** @throws FAILED_PRECONDITION `SECCOMP_PROFILE_MISSING` or `SECCOMP_PROFILE_INVALID`, saying what to do. */
export async function readSeccompProfile(path: string): Promise<SeccompProfile> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const hint = `install Debian's golang-github-containers-common, or run the container with seccomp "unconfined"`;
    throw new StatusError("FAILED_PRECONDITION", `seccomp profile ${path} cannot be read: ${hint}`, {
      reason: "SECCOMP_PROFILE_MISSING",
      cause: error,
    });
  }
  try {
    const profile = JSON.parse(text) as Partial<SeccompProfile> | null;
    if (typeof profile?.defaultAction === "string" && Array.isArray(profile.syscalls)) return profile as SeccompProfile;
  } catch (error) {
    throw invalidProfile(path, error);
  }
  throw invalidProfile(path, undefined);
}

/** The rules that apply to a container with these capabilities on this host. */
export function resolveSeccomp(
  profile: SeccompProfile,
  capabilities: readonly string[],
  host: Pick<HostFacts, "architecture" | "kernel">,
): OciSeccomp {
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: architectures(profile, host.architecture),
    syscalls: profile.syscalls
      .filter((rule) => applies(rule, new Set(capabilities), host))
      .map(toSyscall)
      .filter((syscall) => syscall.names.length > 0),
  };
}

const SECCOMP_ARCHITECTURES: Readonly<Record<string, string>> = {
  amd64: "SCMP_ARCH_X86_64",
  arm64: "SCMP_ARCH_AARCH64",
  arm: "SCMP_ARCH_ARM",
  ppc64le: "SCMP_ARCH_PPC64LE",
  s390x: "SCMP_ARCH_S390X",
  riscv64: "SCMP_ARCH_RISCV64",
};

/** The native architecture and those whose calls the kernel also takes (x86 and x32 on amd64): unlisted ones are killed. */
function architectures(profile: SeccompProfile, goarch: string): readonly string[] {
  if (profile.architectures !== undefined && profile.architectures.length > 0) return profile.architectures;
  const native = SECCOMP_ARCHITECTURES[goarch];
  if (native === undefined) return [];
  const entry = profile.archMap?.find((candidate) => candidate.architecture === native);
  return [native, ...(entry?.subArchitectures ?? [])];
}

function applies(
  rule: ProfileRule,
  capabilities: ReadonlySet<string>,
  host: Pick<HostFacts, "architecture" | "kernel">,
): boolean {
  const { includes, excludes } = rule;
  if (excludes?.arches?.includes(host.architecture)) return false;
  if (excludes?.caps?.some((name) => capabilities.has(name))) return false;
  if (excludes?.minKernel && kernelAtLeast(host.kernel, excludes.minKernel)) return false;
  if (includes?.arches?.length && !includes.arches.includes(host.architecture)) return false;
  if (includes?.caps?.length && !includes.caps.every((name) => capabilities.has(name))) return false;
  if (includes?.minKernel && !kernelAtLeast(host.kernel, includes.minKernel)) return false;
  return true;
}

function kernelAtLeast(kernel: HostFacts["kernel"], wanted: string): boolean {
  const [major = 0, minor = 0] = wanted.split(".").map(Number);
  return kernel.major > major || (kernel.major === major && kernel.minor >= minor);
}

function toSyscall(rule: ProfileRule): OciSyscall {
  const names = [...(rule.names ?? []), ...(rule.name === undefined ? [] : [rule.name])];
  return {
    names,
    action: rule.action,
    ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
    ...(rule.args?.length ? { args: rule.args } : {}),
  };
}

function invalidProfile(path: string, cause: unknown): StatusError {
  return new StatusError("FAILED_PRECONDITION", `seccomp profile ${path} is not of moby's schema`, {
    reason: "SECCOMP_PROFILE_INVALID",
    cause,
  });
}
