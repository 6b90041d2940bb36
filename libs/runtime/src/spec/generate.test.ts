import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { StatusError } from "@berth/base";
import type { OciImageConfig } from "@berth/model";
import { makeBusyboxRoot } from "../testing/rootfs.ts";
import { CAPABILITIES, capabilitiesOfMask } from "./capabilities.ts";
import type { ContainerConfig } from "./container-config.ts";
import { generateSpec, type SpecInput } from "./generate.ts";
import { parseLimits, readHostFacts, type HostFacts } from "./host-facts.ts";
import type { OciSpec } from "./oci-spec.ts";
import { mergeEnv } from "./process.ts";

const root = mkdtempSync(join(tmpdir(), "berth-spec-"));
makeBusyboxRoot(root);
process.once("exit", () => rmSync(root, { recursive: true, force: true }));

const HOST: HostFacts = {
  architecture: "amd64",
  kernel: { major: 6, minor: 1 },
  capabilities: CAPABILITIES.filter((name) => name !== "CAP_SYS_RESOURCE"),
  hardLimits: new Map([
    ["RLIMIT_NOFILE", 20_000],
    ["RLIMIT_CORE", Infinity],
  ]),
  apparmor: false,
  selinux: false,
};

function image(config: NonNullable<OciImageConfig["config"]>): OciImageConfig {
  return { architecture: "amd64", os: "linux", config, rootfs: { type: "layers", diff_ids: [] } };
}

async function spec(container: ContainerConfig, changes: Partial<SpecInput> = {}): Promise<OciSpec> {
  const base = {
    image: image({ Cmd: ["sh"] }),
    rootfs: root,
    hostname: "web",
    cgroupPath: "/berth/shop/web",
    host: HOST,
  };
  return await generateSpec({ ...base, container, ...changes });
}

async function faults(container: ContainerConfig, changes: Partial<SpecInput> = {}): Promise<string[]> {
  const error: unknown = await spec(container, changes).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof StatusError, "should be refused");
  return error.violations.map(({ field }) => field);
}

test("generateSpec combines Entrypoint, Cmd, command and args as Kubernetes does", async () => {
  const both = { image: image({ Entrypoint: ["/entry"], Cmd: ["cmd", "1"] }) };
  const args = async (container: ContainerConfig): Promise<readonly string[]> =>
    (await spec(container, both)).process.args;
  assert.deepEqual(await args({}), ["/entry", "cmd", "1"]);
  assert.deepEqual(await args({ command: ["/own"] }), ["/own"]);
  assert.deepEqual(await args({ args: ["2"] }), ["/entry", "2"]);
  assert.deepEqual(await args({ args: [] }), ["/entry"]);
  assert.deepEqual(await args({ command: ["/own"], args: ["2"] }), ["/own", "2"]);
  assert.deepEqual(await faults({}, { image: image({}) }), ["spec.command"]);
});

test("generateSpec puts the container's environment over the image's", async () => {
  const { process } = await spec(
    {
      env: [
        { name: "B", value: "own" },
        { name: "C", value: "new" },
      ],
      terminal: true,
    },
    { image: image({ Cmd: ["sh"], Env: ["A=1", "B=2", "PATH=/bin"], WorkingDir: "/srv" }) },
  );
  assert.deepEqual(process.env, ["PATH=/bin", "HOSTNAME=web", "TERM=xterm", "A=1", "B=own", "C=new"]);
  assert.equal(process.cwd, "/srv");
  const bare = await spec({ workingDir: "/tmp" });
  assert.match(bare.process.env[0]!, /^PATH=.*\/usr\/bin/);
  assert.equal(bare.process.cwd, "/tmp");
});

test("mergeEnv keeps one setting per name, the last, at the first's place", () => {
  const setting = fc.tuple(
    fc.constantFrom("A", "B", "C", "D"),
    fc.string({ maxLength: 4 }).filter((s) => !s.includes("\0")),
  );
  fc.assert(
    fc.property(fc.array(setting), fc.array(setting), (base, overrides) => {
      const merged = mergeEnv(
        base.map(([k, v]) => `${k}=${v}`),
        overrides.map(([k, v]) => `${k}=${v}`),
      );
      const expected = new Map([...base, ...overrides]);
      assert.deepEqual(
        merged,
        [...expected].map(([k, v]) => `${k}=${v}`),
      );
    }),
  );
});

test("generateSpec resolves users in the image, and nowhere else", async () => {
  const user = async (text: string, changes: Partial<SpecInput> = {}) =>
    (await spec({ user: text }, changes)).process.user;
  assert.deepEqual(await user("web"), { uid: 1000, gid: 1000, additionalGids: [1000, 50] });
  assert.deepEqual(await user("1000:staff"), { uid: 1000, gid: 50, additionalGids: [50] });
  assert.deepEqual(await user("4242"), { uid: 4242, gid: 0, additionalGids: [0] });
  assert.deepEqual(await user(":50"), { uid: 0, gid: 50, additionalGids: [50] });
  assert.deepEqual((await spec({ additionalGroups: [7] })).process.user.additionalGids, [0, 7]);
  const fromImage = await spec({}, { image: image({ Cmd: ["sh"], User: "web" }) });
  assert.equal(fromImage.process.user.uid, 1000);
  for (const bad of ["nobody-here", "web:nogroup-here", "1:2:3", "4294967295"]) {
    assert.deepEqual(await faults({ user: bad }), ["spec.user"], bad);
  }
  const hostile = mkdtempSync(join(tmpdir(), "berth-spec-"));
  try {
    mkdirSync(join(hostile, "etc"));
    writeFileSync(`${hostile}.passwd`, "spy:x:0:0::/:/bin/sh\n");
    symlinkSync(`${hostile}.passwd`, join(hostile, "etc/passwd"));
    assert.deepEqual(await faults({ user: "spy" }, { rootfs: hostile }), ["spec.user"]);
    mkdirSync(join(hostile, "real"));
    writeFileSync(join(hostile, "real/passwd"), "inside:x:7:8::/:/bin/sh\n");
    rmSync(join(hostile, "etc/passwd"));
    symlinkSync("/real/passwd", join(hostile, "etc/passwd"));
    assert.equal((await user("inside", { rootfs: hostile })).uid, 7);
    mkdirSync(join(hostile, "etc/group"));
    await assert.rejects(user("inside", { rootfs: hostile }), { reason: "IMAGE_FILE_UNUSABLE" });
  } finally {
    rmSync(hostile, { recursive: true });
    rmSync(`${hostile}.passwd`);
  }
});

test("generateSpec gives the default capabilities, changed as asked, and none that the agent lacks", async () => {
  const caps = async (capabilities: ContainerConfig["capabilities"], more: ContainerConfig = {}) =>
    (await spec({ ...more, ...(capabilities === undefined ? {} : { capabilities }) })).process.capabilities!.bounding;
  const usual = await caps(undefined);
  assert.equal(usual.length, 14);
  assert.ok(usual.includes("CAP_CHOWN") && !usual.includes("CAP_SYS_ADMIN"));
  assert.deepEqual(await caps({ drop: ["ALL"], add: ["net_bind_service"] }), ["CAP_NET_BIND_SERVICE"]);
  assert.ok((await caps({ add: ["SYS_ADMIN"] })).includes("CAP_SYS_ADMIN"));
  assert.ok(!(await caps({ add: ["ALL"], drop: ["MKNOD"] })).includes("CAP_MKNOD"));
  const all = await caps(undefined, { privileged: true });
  assert.deepEqual(all, HOST.capabilities);
  assert.deepEqual(await faults({ capabilities: { add: ["FLY"], drop: ["x"] } }), ["spec.capabilities.add[0]"]);
  await assert.rejects(caps({ add: ["SYS_RESOURCE"] }), { code: "FAILED_PRECONDITION", reason: "CAPABILITY_NOT_HELD" });
});

test("generateSpec lets the user's mounts win and orders them parents first", async () => {
  const mounts: ContainerConfig["mounts"] = [
    { type: "bind", source: "/srv/cache", destination: "/data/cache/", propagation: "bidirectional" },
    { type: "bind", source: "/srv/data", destination: "/data", readOnly: true },
    { type: "tmpfs", destination: "/dev/shm", sizeBytes: 1024, mode: 0o700 },
    { type: "bind", source: "/srv/hosts", destination: "/etc/hosts" },
  ];
  const etc = { hosts: "/b/hosts", hostname: "/b/hostname", resolvConf: "/b/resolv.conf" };
  const made = await spec({ mounts }, { etc });
  const targets = made.mounts.map(({ destination }) => destination);
  assert.deepEqual(targets.slice(-4), ["/data", "/data/cache", "/dev/shm", "/etc/hosts"]);
  assert.equal(new Set(targets).size, targets.length);
  const options = (destination: string): readonly string[] | undefined =>
    made.mounts.find((mount) => mount.destination === destination)?.options;
  assert.deepEqual(options("/data"), ["rbind", "rprivate", "ro"]);
  assert.deepEqual(options("/data/cache"), ["rbind", "rshared", "rw"]);
  assert.deepEqual(options("/dev/shm"), ["nosuid", "nodev", "mode=700", "size=1024", "rw"]);
  assert.ok(options("/sys/fs/cgroup")?.includes("ro"));
  assert.equal(made.linux.rootfsPropagation, "rshared");
});

test("generateSpec names every field at fault, all at once", async () => {
  const container: ContainerConfig = {
    command: ["a\0b"],
    env: [{ name: "A=B", value: "" }],
    workingDir: "srv",
    hostname: "-bad-",
    mounts: [
      { type: "tmpfs", destination: "/x" },
      { type: "bind", source: "relative", destination: "/x/" },
      { type: "tmpfs", destination: "/proc/1", sizeBytes: -1 },
    ],
    devices: [{ hostPath: "/dev/null", permissions: "rr" }],
    rlimits: [
      { type: "RLIMIT_NOFILE", soft: 1024, hard: 1_000_000 },
      { type: "RLIMIT_NONE", soft: 1, hard: 1 },
      { type: "RLIMIT_CORE", soft: 2, hard: 1 },
    ],
    resources: { memoryBytes: 1, cpuQuotaMicros: 1.5 },
    apparmorProfile: "berth",
    selinuxLabel: "system_u:system_r:x:s0",
  };
  assert.deepEqual(await faults(container), [
    "spec.command[0]",
    "spec.env[0].name",
    "spec.workingDir",
    "spec.hostname",
    "spec.mounts[1].source",
    "spec.mounts[2].destination",
    "spec.mounts[2].sizeBytes",
    "spec.mounts[1].destination",
    "spec.devices[0].permissions",
    "spec.rlimits[0].hard",
    "spec.rlimits[1].type",
    "spec.rlimits[2].soft",
    "spec.resources.cpuQuotaMicros",
    "spec.resources.memoryBytes",
    "spec.apparmorProfile",
    "spec.selinuxLabel",
  ]);
  assert.deepEqual(await faults({ devices: [{ hostPath: "/etc/passwd" }] }), ["spec.devices[0].hostPath"]);
});

test("generateSpec uses AppArmor and SELinux where the host has them", async () => {
  const host = { ...HOST, apparmor: true, selinux: true };
  const { process } = await spec({ apparmorProfile: "berth", selinuxLabel: "u:r:t:s0" }, { host });
  assert.deepEqual([process.apparmorProfile, process.selinuxLabel], ["berth", "u:r:t:s0"]);
  assert.equal((await spec({ apparmorProfile: "unconfined" })).process.apparmorProfile, undefined);
});

test("generateSpec gives devices with the rules to open them", async () => {
  const { linux } = await spec({ devices: [{ hostPath: "/dev/null", containerPath: "/dev/none", permissions: "rw" }] });
  const [node] = linux.devices!;
  assert.deepEqual([node?.path, node?.type, node?.major, node?.minor], ["/dev/none", "c", 1, 3]);
  assert.deepEqual(linux.resources.devices, [
    { allow: false, access: "rwm" },
    { allow: true, type: "c", major: 1, minor: 3, access: "rw" },
  ]);
});

test("generateSpec takes the network namespace it is given, and makes privileged containers so", async () => {
  const joined = await spec({}, { netnsPath: "/run/netns/x" });
  assert.deepEqual(joined.linux.namespaces.at(-1), { type: "network", path: "/run/netns/x" });
  const host = await spec({});
  assert.ok(host.linux.namespaces.every(({ type }) => type !== "network"));
  assert.equal(host.process.noNewPrivileges, true);
  const { process, linux, mounts } = await spec({ privileged: true });
  assert.deepEqual([process.noNewPrivileges, linux.seccomp, linux.maskedPaths], [false, undefined, []]);
  assert.ok(mounts.find(({ destination }) => destination === "/sys")?.options.includes("rw"));
  assert.ok(linux.devices!.some(({ path }) => path === "/dev/null"));
});

test("readHostFacts sees this process, and its parsers read what the kernel writes", async () => {
  const facts = await readHostFacts();
  assert.ok(facts.kernel.major >= 5 && facts.hardLimits.get("RLIMIT_NOFILE")! > 0);
  assert.deepEqual(capabilitiesOfMask("0000000000000041"), ["CAP_CHOWN", "CAP_SETGID"]);
  assert.equal(capabilitiesOfMask("000001ffffffffff").length, CAPABILITIES.length);
  const limits = parseLimits(
    "Limit                     Soft Limit           Hard Limit           Units     \n" +
      "Max cpu time              unlimited            unlimited            seconds   \n" +
      "Max open files            1024                 20000                files     \n",
  );
  assert.deepEqual(
    [...limits],
    [
      ["RLIMIT_CPU", Infinity],
      ["RLIMIT_NOFILE", 20_000],
    ],
  );
});
