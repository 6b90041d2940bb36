/** What a generated spec means, seen from inside a container. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { logLines, makeRuntime } from "../testing/runtime-fixture.ts";
import type { ContainerConfig } from "./container-config.ts";

/** Runs a script and gives what it wrote, stderr included. */
async function inside(script: string, container: ContainerConfig = {}): Promise<string[]> {
  await using fixture = await makeRuntime();
  const request = await fixture.run("inside", { ...container, command: ["sh", "-c", `exec 2>&1; ${script}`] });
  await fixture.runtime.wait(request);
  return await logLines(request);
}

test("a container is confined by default", async () => {
  const lines = await inside(
    "grep -E '^(CapEff|CapBnd|CapInh|NoNewPrivs|Seccomp):' /proc/self/status; mount -t tmpfs none /tmp; id -u; hostname;" +
      " wc -c < /proc/interrupts; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname;" +
      " cd /sys/fs/cgroup/memory 2> /dev/null || cd /sys/fs/cgroup; touch x",
  );
  const value = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`${name}:`))?.split(/\s+/)[1];
  assert.deepEqual(["CapEff", "CapBnd", "CapInh", "NoNewPrivs", "Seccomp"].map(value), [
    "00000000a80425fb",
    "00000000a80425fb",
    "0000000000000000",
    "1",
    "2",
  ]);
  const rest = lines.filter((line) => !/^(Cap|NoNew|Seccomp)/.test(line));
  assert.match(rest[0]!, /mount: .*(permission denied|not permitted)/i);
  assert.deepEqual(rest.slice(1, 5), ["0", "inside", "0", "0"]);
  assert.match(rest[5]!, /Read-only file system/);
  assert.match(rest[6]!, /Read-only file system/);
});

test("the seccomp profile refuses what the capabilities would allow, and unconfined does not", async () => {
  const capabilities = { add: ["SYS_ADMIN"] };
  const [confined] = await inside("swapon /etc/secret", { capabilities });
  assert.match(confined!, /not permitted/i);
  const [unconfined] = await inside("swapon /etc/secret", { capabilities, seccomp: "unconfined" });
  assert.match(unconfined!, /invalid argument/i);
});

test("a container has the user, groups, directory and files of its spec", async () => {
  const lines = await inside("id -u; id -g; id -G; pwd; cat /etc/hostname /etc/resolv.conf; tail -n 1 /etc/hosts", {
    user: "web:staff",
    workingDir: "/tmp",
    additionalGroups: [77],
  });
  assert.deepEqual(lines, ["1000", "50", "50 77", "/tmp", "inside", "nameserver 192.0.2.1", "127.0.1.1\tinside"]);
});

test("mounts are read-only, writable and bounded as asked", async () => {
  await using fixture = await makeRuntime();
  const source = (name: string): string => join(fixture.scratch.directory, name);
  for (const name of ["ro", "rw"]) {
    mkdirSync(source(name));
    writeFileSync(join(source(name), "file"), name);
  }
  const script =
    "exec 2>&1; cat /mnt/ro/file /mnt/rw/file; echo; touch /mnt/ro/new; touch /mnt/rw/new; touch /root/new;" +
    " df -k /mnt/tmp | tail -n 1; df -k /dev/shm | tail -n 1";
  const request = await fixture.run("inside", {
    command: ["sh", "-c", script],
    readOnlyRootfs: true,
    mounts: [
      { type: "bind", source: source("ro"), destination: "/tmp/../mnt/ro", readOnly: true },
      { type: "bind", source: source("rw"), destination: "/mnt/rw" },
      { type: "tmpfs", destination: "/mnt/tmp", sizeBytes: 1024 * 1024 },
    ],
  });
  await fixture.runtime.wait(request);
  const lines = await logLines(request);
  assert.equal(lines[0], "rorw");
  assert.match(lines[1]!, /\/mnt\/ro\/new: Read-only file system/);
  assert.match(lines[2]!, /\/root\/new: Read-only file system/);
  assert.match(lines[3]!, /^tmpfs +1024 /);
  assert.match(lines[4]!, /^shm +65536 /);
  assert.ok(statSync(join(source("rw"), "new")).isFile());
  assert.match(readFileSync(join(request.bundle, "config.json"), "utf8"), /"\/mnt\/ro"/);
});

test("a container has its resource limits and devices", async () => {
  const lines = await inside("ulimit -Sn; ulimit -Hn; echo x > /dev/mine && echo wrote; head -c 4 /dev/zero | wc -c", {
    rlimits: [{ type: "RLIMIT_NOFILE", soft: 100, hard: 200 }],
    devices: [{ hostPath: "/dev/null", containerPath: "/dev/mine", permissions: "rw" }],
  });
  assert.deepEqual(lines, ["100", "200", "wrote", "4"]);
});

test("a privileged container has what the agent has", async () => {
  const own = /^CapPrm:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1];
  const lines = await inside(
    "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs none /tmp && echo mounted",
    {
      privileged: true,
    },
  );
  assert.deepEqual(lines, [`CapEff:\t${own}`, "Seccomp:\t0", "mounted"]);
});
