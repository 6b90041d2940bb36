import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { OciSeccomp } from "./oci-spec.ts";
import { DEFAULT_SECCOMP_PROFILE, readSeccompProfile, resolveSeccomp, type SeccompProfile } from "./seccomp.ts";

const AMD64 = { architecture: "amd64", kernel: { major: 6, minor: 1 } };

const PROFILE: SeccompProfile = {
  defaultAction: "SCMP_ACT_ERRNO",
  defaultErrnoRet: 38,
  archMap: [
    { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
    { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
  ],
  syscalls: [
    { names: ["read", "write"], action: "SCMP_ACT_ALLOW", args: [] },
    { names: ["mount"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_ADMIN"] } },
    { names: ["mount"], action: "SCMP_ACT_ERRNO", errnoRet: 1, excludes: { caps: ["CAP_SYS_ADMIN"] } },
    { names: ["arch_prctl"], action: "SCMP_ACT_ALLOW", includes: { arches: ["amd64", "x32"] } },
    { names: ["clone3"], action: "SCMP_ACT_ALLOW", includes: { minKernel: "5.3" } },
    { names: ["old"], action: "SCMP_ACT_ALLOW", excludes: { minKernel: "5.3" } },
  ],
};

function rules(seccomp: OciSeccomp): string[] {
  return seccomp.syscalls.map(({ names, action }) => `${names.join("+")} ${action.replace("SCMP_ACT_", "")}`);
}

test("resolveSeccomp keeps the rules that fit capabilities, architecture and kernel", () => {
  assert.deepEqual(rules(resolveSeccomp(PROFILE, [], AMD64)), [
    "read+write ALLOW",
    "mount ERRNO",
    "arch_prctl ALLOW",
    "clone3 ALLOW",
  ]);
  assert.deepEqual(
    rules(resolveSeccomp(PROFILE, ["CAP_SYS_ADMIN"], { architecture: "arm64", kernel: { major: 4, minor: 19 } })),
    ["read+write ALLOW", "mount ALLOW", "old ALLOW"],
  );
});

test("resolveSeccomp names the architecture with those it also runs", () => {
  const names = (architecture: string): readonly string[] =>
    resolveSeccomp(PROFILE, [], { ...AMD64, architecture }).architectures;
  assert.deepEqual(names("amd64"), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
  assert.deepEqual(names("arm64"), ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
  assert.deepEqual(names("riscv64"), ["SCMP_ARCH_RISCV64"]);
});

test("readSeccompProfile reads Debian's profile, which resolves to what a shell needs", async () => {
  const seccomp = resolveSeccomp(await readSeccompProfile(DEFAULT_SECCOMP_PROFILE), ["CAP_CHOWN"], AMD64);
  const action = (name: string): string | undefined =>
    seccomp.syscalls.find(({ names, args }) => names.includes(name) && args === undefined)?.action;
  assert.deepEqual([seccomp.defaultAction, seccomp.defaultErrnoRet], ["SCMP_ACT_ERRNO", 38]);
  assert.deepEqual(["execve", "arch_prctl", "swapon", "bpf", "chroot"].map(action), [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_ERRNO",
  ]);
});

test("readSeccompProfile says what to do without a profile, and refuses what is none", async () => {
  await assert.rejects(readSeccompProfile("/nonexistent/seccomp.json"), {
    code: "FAILED_PRECONDITION",
    reason: "SECCOMP_PROFILE_MISSING",
    message: /golang-github-containers-common.*unconfined/,
  });
  const directory = mkdtempSync(join(tmpdir(), "berth-seccomp-"));
  try {
    for (const text of ["not json", "{}", "null"]) {
      writeFileSync(join(directory, "profile.json"), text);
      await assert.rejects(readSeccompProfile(join(directory, "profile.json")), { reason: "SECCOMP_PROFILE_INVALID" });
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});
