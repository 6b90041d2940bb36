/** The units are ones that systemd takes, and keep what the documents promise of them; the sample files are configurations. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { parseEnv } from "node:util";
import { loadAgentConfig, loadControllerConfig } from "@berth/config";
import { scratchDir } from "@berth/testkit/servers";

const HERE = import.meta.dirname;
const ROOT = resolve(HERE, "../..");
const UNITS = ["berthd.service", "berth-controller.service"];

const read = (file: string): string => readFileSync(join(HERE, file), "utf8");

/** A unit's settings; none is given twice. */
function settingsOf(unit: string): Map<string, string> {
  const settings = new Map<string, string>();
  for (const line of read(unit).split("\n")) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined) continue;
    assert.ok(!settings.has(key), `${unit}: ${key} is given twice`);
    settings.set(key, value!);
  }
  return settings;
}

void test("the units are ones that systemd takes", () => {
  using scratch = scratchDir("berth-units");
  for (const unit of UNITS) {
    const there = read(unit)
      .replaceAll("/opt/berth/", `${ROOT}/`)
      .replaceAll(/^(User|Group)=.*/gm, "$1=root");
    writeFileSync(join(scratch.dir, unit), there);
  }
  const files = UNITS.map((unit) => join(scratch.dir, unit));
  const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", ...files], { encoding: "utf8" });
  const ours = stderr
    .split("\n")
    .filter((line) => line.includes(scratch.dir) || UNITS.some((unit) => line.startsWith(unit)));
  assert.deepEqual([status, ours], [0, []], stderr);
});

void test("berthd.service ends the agent's process alone, and owns the cgroups beneath it", () => {
  const settings = settingsOf("berthd.service");
  assert.equal(settings.get("KillMode"), "process");
  assert.equal(settings.get("Delegate"), "yes");
  assert.equal(settings.get("Restart"), "always");
  assert.equal(settings.get("StartLimitIntervalSec"), "0", "no number of crashes makes systemd give up");
});

void test("berth-controller.service gives no privilege, and more time to stop than a controller takes", async () => {
  const settings = settingsOf("berth-controller.service");
  assert.equal(settings.get("User"), "berth");
  assert.equal(settings.get("CapabilityBoundingSet"), "");
  assert.equal(settings.get("NoNewPrivileges"), "yes");
  const config = await sampleController();
  assert.ok(Number(settings.get("TimeoutStopSec")) * 1_000 > config.drainGraceMs);
  assert.ok(config.bootstrapTokenFile?.startsWith(`/var/lib/${settings.get("StateDirectory")}/`));
});

const sampleController = () =>
  loadControllerConfig({
    file: join(HERE, "controller.yaml"),
    env: parseEnv(read("controller.env")),
  });

void test("the sample configurations are ones, and name what the tmpfiles make", async () => {
  const controller = await sampleController();
  assert.match(controller.natsUrl, /nats-c\.internal/);
  const env = parseEnv(read("berthd.env"));
  const agent = await loadAgentConfig({ file: join(HERE, "berthd.yaml"), env });
  assert.deepEqual([agent.node, agent.root, agent.state], ["node-1", "/var/lib/berth", "/run/berth"]);
});

void test("sysusers and tmpfiles make the user and the folders, in a root of their own", (context) => {
  using scratch = scratchDir("berth-root");
  const root = scratch.dir;
  for (const dir of ["etc", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"])
    mkdirSync(join(root, dir), { recursive: true });
  cpSync(join(HERE, "berth.sysusers.conf"), join(root, "usr/lib/sysusers.d/berth.conf"));
  cpSync(join(HERE, "berth.tmpfiles.conf"), join(root, "usr/lib/tmpfiles.d/berth.conf"));
  if (process.getuid?.() !== 0) return context.skip("needs root");
  execFileSync("systemd-sysusers", [`--root=${root}`, "berth.conf"]);
  assert.match(readFileSync(join(root, "etc/passwd"), "utf8"), /^berth:.*:\/var\/lib\/berth-controller:/m);
  execFileSync("systemd-tmpfiles", ["--create", `--root=${root}`, "berth.conf"]);
  assert.equal(statSync(join(root, "etc/berth")).mode & 0o777, 0o750);
  assert.ok(existsSync(join(root, "run/berth")) && existsSync(join(root, "var/lib/berth")));
});
