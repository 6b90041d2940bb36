/**
 * `berthd upgrade` on a node with containers: to a version that is well, to one that ends, and to one that hangs. Containers keep
 * their processes through all of it (A1), and the fleet is told. Then the same by `berth upgrade agents`.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually, scratchDir, startFleet, type Fleet } from "@berth/testkit";
import { eventsOf, nodesOf, pushHello, workloadManifest } from "../support/fleet.ts";
import { failingAgent, makeVersions, type Versions } from "../support/upgrade/versions.ts";

const FIRST = "0.1.0+test";
const PACKED = "0.2.0";

void describe("berthd upgrade", { timeout: 240_000 }, () => {
  const scratch = scratchDir("berth-upgrade");
  let versions: Versions;
  let fleet: Fleet;
  let containers: readonly number[];

  before(async () => {
    versions = makeVersions(scratch.dir, FIRST, PACKED);
    // A lease that outlasts every start of an agent, however busy the machine: nobody is to be replaced here.
    fleet = await startFleet({ nodes: 1, build: versions.build, leaseTtlMs: 30_000 });
    const image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    const args = ["sh", "-c", "exec sleep 1000"];
    await fleet.berth(["apply", "-f", "-", "--wait"], workloadManifest({ name: "web", image, replicas: 2, args }));
    containers = containerPids(fleet);
    assert.equal(containers.length, 2);
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    scratch[Symbol.dispose]();
  });

  /** As root on the host types it. */
  const upgrade = (...args: string[]): { readonly code: number | null; readonly text: string } => {
    const config = join(fleet.dir, "node-1/config.json");
    const argv = ["--config", config, "upgrade", ...args];
    const { status, stdout, stderr } = spawnSync(join(versions.folder, "bin/berthd"), argv, { encoding: "utf8" });
    return { code: status, text: `${stdout}${stderr}` };
  };
  const versionShown = async (): Promise<string> => {
    const [node] = await nodesOf(fleet);
    return node!.status.agentVersion;
  };

  const versionsThere = (): string[] => readdirSync(join(versions.folder, "versions")).toSorted();

  void test("takes an archive whose hash is right, and the new version proves itself", async () => {
    const { file, sha256 } = versions.archive;
    const wrong = upgrade("--archive", file, "--sha256", "0".repeat(64));
    assert.equal(wrong.code, 1);
    assert.match(wrong.text, /has sha256 [0-9a-f]{64}, not 0{64}/);
    assert.ok(!existsSync(join(versions.folder, "versions/0.2.0")));
    const right = upgrade("--archive", file, "--sha256", sha256);
    assert.equal(right.code, 0, right.text);
    assert.match(right.text, /version 0\.2\.0 has proven itself/);
    await eventually("the new version shown", async () => (await versionShown()) === "0.2.0");
    assert.deepEqual(containerPids(fleet), containers);
    assert.match(upgrade("--to", "0.2.0").text, /runs already/);
  });

  void test("takes a version back that ends at its start, and says so to the fleet", async () => {
    versions.add("0.3.0", failingAgent("0.3.0", "process.exit(1);"));
    const { code, text } = upgrade("--to", "0.3.0");
    assert.equal(code, 1);
    assert.match(text, /version 0\.3\.0 was taken back, 0\.2\.0 runs again: it ended 3 times/);
    await eventually("the event", async () => {
      const events = await eventsOf(fleet, 'topic=="/agent/warning"');
      return events.some((event) => JSON.stringify(event).includes("version 0.3.0 was taken back to 0.2.0"));
    });
    assert.equal(await versionShown(), "0.2.0");
    assert.deepEqual(containerPids(fleet), containers);
  });

  void test("takes a version back that hangs, at its deadline", () => {
    versions.add("0.4.0", failingAgent("0.4.0", "setInterval(() => {}, 1000);"));
    const { code, text } = upgrade("--to", "0.4.0", "--timeout", "3s");
    assert.equal(code, 1);
    assert.match(text, /0\.2\.0 runs again: it had not proven itself after 3 s/);
    assert.deepEqual(containerPids(fleet), containers);
  });

  void test("refuses a version that does not run on this host, before anything is touched", () => {
    versions.add("0.5.0", "throw new Error('not for this host');");
    const { code, text } = upgrade("--to", "0.5.0");
    assert.equal(code, 2);
    assert.match(text, /version 0\.5\.0 does not run on this host/);
    assert.match(upgrade("--to", "../etc").text, /is no version/);
  });

  void test("goes back to an earlier version in the same way", async () => {
    const { code, text } = upgrade("--to", FIRST);
    assert.equal(code, 0, text);
    // What was tried and taken back has gone; the version before stays, and what was only put there.
    await eventually("old versions gone", () => versionsThere().join() === [FIRST, PACKED, "0.5.0"].toSorted().join());
    await eventually("the first version shown", async () => (await versionShown()) === FIRST);
    assert.deepEqual(containerPids(fleet), containers);
  });

  void test("berth upgrade agents brings nodes a release out of a registry, by digest", async () => {
    rmSync(join(versions.folder, "versions", PACKED), { recursive: true });
    const { folder, digest } = versions.image;
    const { address, credentials } = fleet.registry;
    const repository = `${address}/berth/agent`;
    const to = ["--dest-tls-verify=false", "--dest-creds", `${credentials!.username}:${credentials!.password}`];
    const pushed = spawnSync("skopeo", [
      "copy",
      "--insecure-policy",
      ...to,
      `oci:${folder}`,
      `docker://${repository}:${PACKED}`,
    ]);
    assert.equal(pushed.status, 0, pushed.stderr.toString());
    const image = `${repository}@${digest}`;
    const refused = await fleet.cli("upgrade", "agents", "--to", "0.7.0", "--image", image);
    assert.equal(refused.code, 1);
    assert.match(refused.stdout, /node-1 +Refused: image .* holds version 0\.2\.0, not 0\.7\.0/);
    const done = await fleet.berth(["upgrade", "agents", "--to", PACKED, "--image", image]);
    assert.match(done, /group 1 of 1: node-1\n[^]*node-1 +Proven\n1 of 1 nodes upgraded\n$/);
    assert.equal(await versionShown(), PACKED);
    assert.deepEqual(containerPids(fleet), containers);
  });

  void test("berth upgrade agents says which nodes took a version back, and ends with 1", async () => {
    versions.add("0.8.0", failingAgent("0.8.0", "process.exit(1);"));
    const { code, stdout, stderr } = await fleet.cli("upgrade", "agents", "--to", "0.8.0");
    assert.equal(code, 1);
    assert.match(stdout, /node-1 +TakenBack: it ended 3 times/);
    assert.match(stderr, /upgrade \d+ stopped: 0 of 1 nodes upgraded; 1 nodes did not keep the version \(node-1\)/);
    const shown = await fleet.berth(["upgrade", "status"]);
    assert.match(shown, /^upgrade\/\d+ +Stopped +to 0\.8\.0\n[^]*0 of 1 done, 0 under way, 0 waiting, 1 failed/);
    assert.match(shown, /\n1 +node-1 +0\.2\.0 +0\.8\.0 +TakenBack +it ended 3 times/);
    assert.match(
      await fleet.berth(["upgrade", "history"]),
      /0\.8\.0 +Stopped +0 of 1 +1 .*\n\d+ +0\.2\.0 +Completed +1 of 1 +0 /,
    );
    const back = await fleet.cli("upgrade", "undo");
    assert.match(back.stderr, /no node runs what upgrade \d+ brought to it/);
    assert.deepEqual(containerPids(fleet), containers);
    await fleet.berth(["-n", "demo", "delete", "workload", "web", "--wait"]);
    assert.deepEqual(containerPids(fleet), []);
  });
});

/** Processes of the image's own in cgroups of the node's containers. */
function containerPids(fleet: Fleet): readonly number[] {
  const { cgroupParent } = fleet.agents[0]!;
  const own = (name: string, file: string): string => {
    try {
      return readFileSync(join("/proc", name, file), "utf8");
    } catch {
      return "";
    }
  };
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && own(name, "cgroup").includes(`${cgroupParent}/`))
    .filter((name) => own(name, "cmdline").startsWith("sleep\u{0}1000"))
    .map(Number)
    .toSorted((a, b) => a - b);
}
