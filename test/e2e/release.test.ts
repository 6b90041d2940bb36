/**
 * `npm run pack`: what it makes is the same each time, installs as docs/operations/install.md says, and runs a fleet: controller,
 * agent and command line out of the unpacked tree, with a task in a real container.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually, releaseBuild, scratchDir, startFleet } from "@berth/testkit";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const VERSION = "0.1.0+test";

const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: "utf8" }).trim();

function pack(out: string): string {
  run(process.execPath, join(ROOT, "deploy/pack/pack.ts"), "--out", out, "--version", VERSION);
  const file = readdirSync(out).find((name) => name.endsWith(".tar.gz"));
  assert.equal(file, `berth-${VERSION}-linux-${process.arch}.tar.gz`);
  return join(out, file);
}

void describe("a release", { timeout: 240_000 }, () => {
  const scratch = scratchDir("berth-release");
  const unpacked = join(scratch.dir, "unpacked");
  const opt = join(scratch.dir, "opt/berth");
  let archive: string;
  let tree: string;

  before(() => {
    archive = pack(join(scratch.dir, "one"));
    mkdirSync(unpacked);
    run("tar", "-xzf", archive, "-C", unpacked);
    tree = join(unpacked, readdirSync(unpacked)[0]!);
  });
  after(() => scratch[Symbol.dispose]());

  void test("is the same bytes the second time, and SHA256SUMS has their hash", () => {
    const again = readFileSync(pack(join(scratch.dir, "two")));
    assert.ok(readFileSync(archive).equals(again), "two runs made different archives");
    const sums = readFileSync(join(scratch.dir, "two/SHA256SUMS"), "utf8");
    const sha256 = createHash("sha256").update(again).digest("hex");
    assert.equal(sums, `${sha256}  berth-${VERSION}-linux-${process.arch}.tar.gz\n`);
  });

  void test("names its version, its commit and what it is made of", () => {
    assert.match(readFileSync(join(tree, "VERSION"), "utf8"), /^version=0\.1\.0\+test\ncommit=\S+\narch=\w+\n$/);
    const bill = JSON.parse(readFileSync(join(tree, "sbom.json"), "utf8")) as { components: { name: string }[] };
    const names = bill.components.map(({ name }) => name);
    for (const name of ["@grpc/grpc-js", "bullmq", "koffi", "postgres", `node-linux-${process.arch}`])
      assert.ok(names.includes(name), `${name} is not in the bill of materials`);
    for (const name of ["typescript", "drizzle-kit", "esbuild", "@bufbuild/buf"]) assert.ok(!names.includes(name));
    assert.match(readFileSync(join(tree, "LICENSES.txt"), "utf8"), /bullmq [\d.]+: MIT/);
  });

  void test("install.sh puts it beside others and makes it current, in place of what was", () => {
    run("sh", join(tree, "install.sh"), opt);
    for (const program of ["berth", "berthd", "berth-controller"])
      assert.equal(run(join(opt, "bin", program), "--version"), VERSION);
    assert.match(run(join(opt, "bin/berth"), "--help"), /Run containers on a fleet of hosts/);
    const other = join(scratch.dir, "other");
    cpSync(tree, other, { recursive: true });
    run("sed", "-i", "s/^version=.*/version=0.2.0/", join(other, "VERSION"));
    assert.equal(run("sh", join(other, "install.sh"), opt), `0.2.0 is current in ${opt}`);
    assert.equal(readlinkSync(join(opt, "current")), "versions/0.2.0");
    assert.equal(run("sh", join(tree, "install.sh"), opt), `${VERSION} is current in ${opt}`);
    assert.deepEqual(readdirSync(join(opt, "versions")).toSorted(), [VERSION, "0.2.0"].toSorted());
    for (const unit of ["berthd.service", "berth-controller.service"])
      assert.ok(existsSync(join(opt, "current/share/systemd", unit)));
  });

  void test("its image's steps run on a bare system, and leave a controller that its own user can start", (context) => {
    if (process.getuid?.() !== 0) return context.skip("needs root");
    const root = join(scratch.dir, "image");
    const dockerfile = readFileSync(join(ROOT, "deploy/compose/Dockerfile"), "utf8");
    const steps = [...dockerfile.matchAll(/^RUN (.+)$/gm)].map(([, step]) => step!);
    assert.equal(steps.length, 3);
    // In place of the base image: this machine's programs, read-only, under a root that is otherwise empty.
    for (const folder of ["usr", "etc", "tmp/release", "var/lib", "proc"])
      mkdirSync(join(root, folder), { recursive: true });
    for (const folder of ["bin", "lib", "lib64", "sbin"]) symlinkSync(`usr/${folder}`, join(root, folder));
    for (const file of ["passwd", "group", "shadow", "login.defs"]) cpSync(join("/etc", file), join(root, "etc", file));
    cpSync(tree, join(root, "tmp/release", basename(tree)), { recursive: true });
    const program = /^ENTRYPOINT \["(.+)"\]$/m.exec(dockerfile)![1]!;
    const uid = /--uid (\d+)/.exec(dockerfile)![1]!;
    const script = [
      `mount --bind /usr ${root}/usr`,
      `mount -o remount,bind,ro ${root}/usr`,
      ...steps.map((step) => `chroot ${root} sh -ec '${step}'`),
      `stat -c '%a %u' ${root}/var/lib/berth-controller`,
      `chroot --userspec ${uid}:${uid} ${root} ${program} --version`,
      `ls ${root}/tmp`,
    ];
    const said = run("unshare", "--mount", "sh", "-ec", script.join("\n")).split("\n");
    assert.deepEqual(said, [`${VERSION} is current in /opt/berth`, `700 ${uid}`, VERSION]);
  });

  void test("runs a fleet: controller, agent and command line of the installed tree, with a real container", async () => {
    await using fleet = await startFleet({ nodes: 1, build: releaseBuild(opt) });
    const image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    const args = ["sh", "-c", "echo from a release; exec sleep 1000"];
    await fleet.berth(["apply", "-f", "-", "--wait"], workloadManifest({ name: "web", image, replicas: 1, args }));
    const [task] = await tasksOf(fleet, "web");
    assert.ok(task?.status.phase === "Running");
    assert.match(await fleet.berth(["nodes", "-o", "wide"]), new RegExp(VERSION.replaceAll(/[.+]/g, "\\$&")));
    await eventually("its output", async () => (await fleet.berth(["-n", "demo", "logs", "web"])).includes("release"));
    // The agent of the tree in a thread of its own: out of the container and back into it.
    await fleet.berth(["-n", "demo", "cp", `${task.metadata.name}:/etc/passwd`, join(scratch.dir, "passwd")]);
    assert.ok(existsSync(join(scratch.dir, "passwd")));
    // kill -9, and the next one of the tree finds the container again (A1).
    const [agent] = fleet.agents;
    const before = agent!.processes().map(({ pid }) => pid);
    await agent!.kill();
    await agent!.start();
    assert.deepEqual(agent!.processes().map(({ pid }) => pid), before); // prettier-ignore
  });
});
