/** The host door and its commands with a real agent: `bin/berthd` as a child process, a real registry, a real terminal. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ReadStream } from "node:tty";
import { stripVTControlCharacters } from "node:util";
import { openPty } from "@berth/linux";
import { ImageService, type Progress } from "@berth/proto/host";
import { createGrpcClient } from "@berth/rpc";
import { buildImage, eventually, pushImage } from "@berth/testkit";
import { startAgentLab, type AgentLab } from "../../testing/agent-lab.ts";
import { BERTHD, berthdEnv, callBerthd, resultOf, runBerthd, startBerthd, type Result } from "../../testing/berthd.ts";
import { startGatedRegistry, type GatedRegistry } from "../../testing/gated-registry.ts";

/** Larger than configs and manifests. */
const GATED_BYTES = 100_000;

describe("host door", () => {
  let lab: AgentLab;
  let gated: GatedRegistry;
  before(async () => {
    lab = await startAgentLab({
      registries: async (registry, lifetime) => {
        gated = lifetime.own(await startGatedRegistry(registry.api, GATED_BYTES));
        return [gated.address];
      },
    });
  });
  after(() => lab[Symbol.asyncDispose]());

  const env = (): Record<string, string> => ({ BERTH_STATE: lab.agent.state });
  const berthd = (...args: string[]): Promise<Result> => callBerthd(args, env());
  /** An image that no other test has pulled, behind the gate. */
  const freshImage = async (tag: string): Promise<string> => {
    const entries = [{ path: "noise", content: randomBytes(4 * GATED_BYTES) }];
    const { name } = await pushImage(lab.registry, "test/fresh", tag, buildImage({ layers: [{ entries }] }));
    return name.replace(/^[^/]+/, gated.address);
  };
  /** A command that succeeds; what it printed. */
  const ok = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await berthd(...args);
    assert.equal(code, 0, `berthd ${args.join(" ")}: ${stderr}`);
    return stdout;
  };
  const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await ok(...args, "-o", "json")) as T;
  const fails = async (code: number, pattern: RegExp, ...args: string[]): Promise<void> => {
    const result = await berthd(...args);
    assert.deepEqual([result.code, result.stdout], [code, ""], `${args.join(" ")}: ${result.stderr}`);
    assert.match(result.stderr, pattern);
  };
  const runPipe = (script: string): Promise<Result> =>
    resultOf(spawn("/bin/sh", ["-c", script], { env: berthdEnv({ ...env(), BERTHD }) }));
  type Named = { readonly name: string; readonly target: { readonly digest: string } };
  type Blob = { readonly digest: string; readonly sizeBytes: string; readonly labels?: Record<string, string> };

  test("berthd pulls, lists, tags, pins and removes images of its namespace alone (D7)", async () => {
    const pulled = await runBerthd(["-n", "shop", "pull", lab.image], { env: env() });
    assert.equal(pulled.code, 0, pulled.stderr);
    assert.match(pulled.stdout, /^\S+\/test\/busybox:1 sha256:[0-9a-f]{64} unpacked with overlayfs\n$/);
    assert.match(pulled.stderr, /downloading.*\n[^]*done/, "plain lines where there is no terminal");
    assert.ok(!pulled.stderr.includes("\u001b"));

    const [image] = await json<Named[]>("-n", "shop", "images", "ls");
    assert.equal(image?.name, lab.image);
    assert.match(await ok("-n", "shop", "images", "ls", "name~=busybox"), /^NAME +DIGEST/);
    assert.deepEqual(await json("-n", "shop", "images", "ls", "name~=nothing"), []);
    assert.match(await ok("-n", "shop", "images", "inspect", lab.image), new RegExp(image.target.digest));
    assert.deepEqual(await json("-n", "other", "images", "ls"), []);
    assert.deepEqual(await json("-n", "other", "content", "ls"), []);
    assert.deepEqual(await json("-n", "other", "snapshots", "ls"), []);
    await fails(3, /is not in namespace "other"/, "-n", "other", "images", "inspect", lab.image);
    await fails(3, /is not in namespace "other"/, "-n", "other", "content", "cat", image.target.digest);

    await ok("-n", "shop", "images", "tag", lab.image, "tools:1");
    assert.equal((await json<Named[]>("-n", "shop", "images", "ls")).length, 2);
    await ok("-n", "shop", "images", "pin", "tools:1", "--for", "1h", "--holder", "me");
    assert.match(await ok("-n", "shop", "images", "pins"), /library\/tools:1 +me +20/);
    await ok("-n", "shop", "images", "unpin", "tools:1", "--holder", "me");
    assert.deepEqual(await json("-n", "shop", "images", "pins"), []);
    assert.equal(await ok("-n", "shop", "images", "rm", "tools:1"), "tools:1\n");
    await fails(3, /tools:1" is not in namespace "shop"/, "-n", "shop", "images", "rm", "tools:1");
    await fails(2, /namespace: "Shop" has upper-case letters/, "-n", "Shop", "images", "ls");
    await fails(2, /filter/i, "-n", "shop", "images", "ls", "name==");
  });

  test("berthd tells what an image is made of and costs, and prunes", async () => {
    await ok("-n", "looks", "pull", lab.image);
    const inspected = await ok("-n", "looks", "images", "inspect", lab.image);
    assert.match(inspected, /Size: +\d.*MiB, \d.*MiB unpacked\n/);
    assert.match(inspected, /Cmd: +\["\/bin\/sh"\]/);
    assert.match(inspected, /LAYER +SIZE +HERE +UNPACKED\nsha256:\w{64} +\S+ MiB +yes +overlayfs/);
    const details = await json<{ layers: unknown[]; platforms: unknown[] }>(
      "-n",
      "looks",
      "images",
      "inspect",
      lab.image,
    );
    assert.equal(details.layers.length, 1);
    assert.match(await ok("-n", "looks", "images", "history", lab.image), /^LAYER +CREATED +SIZE +BY\n\S+ /);
    const usage = await json<{ totalBytes: string }>("-n", "looks", "images", "usage");
    assert.ok(Number(usage.totalBytes) > 1_000_000);
    await fails(3, /is not in namespace "other"/, "-n", "other", "images", "inspect", lab.image);
    await fails(3, /is not in namespace "other"/, "-n", "other", "images", "history", lab.image);
    await fails(2, /--older-than "old" is not a duration/, "images", "prune", "--older-than", "old");
    assert.match(
      await ok("-n", "looks", "images", "prune", "--dry-run"),
      /would remove \S+busybox:1\n.* would be freed/,
    );
    assert.equal((await json<Named[]>("-n", "looks", "images", "ls")).length, 1);
    assert.match(await ok("-n", "looks", "images", "prune", "name~=busybox"), /^removed \S+busybox:1\n/);
    assert.deepEqual(await json("-n", "looks", "images", "ls"), []);
  });

  test("berthd exports, imports and pushes images, by files and by pipes", async () => {
    await ok("-n", "from", "pull", lab.image);
    const file = join(lab.dir, "app.tar");
    assert.match(await ok("-n", "from", "images", "export", file, lab.image), /busybox:1: 2 blobs, \d.*MiB\n/);
    const imported = await ok("-n", "to", "images", "import", file, "--name", "copy/app:v2");
    assert.match(imported, /^docker\.io\/copy\/app:v2 sha256:\w{64}\n/);
    assert.equal((await json<Blob[]>("-n", "to", "content", "ls")).length, 3);
    const piped = await runPipe(`"$BERTHD" -n from images export - ${lab.image} | "$BERTHD" -n piped images import -`);
    assert.equal(piped.code, 0, piped.stderr);
    const compared = await runPipe(`"$BERTHD" -n from images export - ${lab.image} | cmp - ${file}`);
    assert.equal(compared.code, 0, "the same bytes either way");
    assert.match(piped.stdout, /busybox:1 sha256:\w{64}\n/);
    assert.equal((await json<Named[]>("-n", "piped", "images", "ls")).length, 1);
    const target = `${lab.registry.address}/test/pushed:v1`;
    assert.match(
      await ok("-n", "from", "images", "push", lab.image, target),
      /pushed:v1 sha256:\w{64} \(\d blobs sent/,
    );
    assert.match(await ok("-n", "back", "pull", target), /unpacked with overlayfs/);
    await fails(3, /none/, "-n", "from", "images", "export", file, "none:1");
    await fails(3, /none/, "-n", "from", "images", "push", "none:1", target);
    await fails(
      2,
      /"zip" is not one of oci, docker/,
      "-n",
      "from",
      "images",
      "export",
      file,
      lab.image,
      "--format",
      "zip",
    );
    const wrong = await berthd("-n", "to", "images", "import", join(lab.dir, "no.tar"));
    assert.notEqual(wrong.code, 0);
    assert.match(wrong.stderr, /no\.tar/);
  });

  test("berthd shows, reads, labels and drops content", async () => {
    await ok("-n", "content", "pull", lab.image);
    const blobs = await json<Blob[]>("-n", "content", "content", "ls");
    assert.equal(blobs.length, 3);
    const layer = blobs.reduce((a, b) => (Number(a.sizeBytes) > Number(b.sizeBytes) ? a : b));
    const child = startBerthd(["-n", "content", "content", "cat", layer.digest], { env: env() });
    const hash = createHash("sha256");
    child.stdout.on("data", (chunk: Buffer) => hash.update(chunk));
    await once(child, "close");
    assert.equal(`sha256:${hash.digest("hex")}`, layer.digest);
    const part = await ok("-n", "content", "content", "cat", blobs[0]!.digest, "--offset", "2", "--length", "7");
    assert.equal(Buffer.byteLength(part, "utf8") > 0, true);
    const labelled = await json<Blob>("-n", "content", "content", "label", layer.digest, "owner=me", "gone-");
    assert.equal(labelled.labels?.["owner"], "me");
    assert.equal((await json<Blob[]>("-n", "content", "content", "ls", "labels.owner==me")).length, 1);
    assert.match(await ok("-n", "content", "content", "info", layer.digest), /Labels: +.*owner=me/);
    await ok("-n", "content", "content", "label", layer.digest, "owner-");
    assert.doesNotMatch(await ok("-n", "content", "content", "info", layer.digest), /owner/);
    await fails(2, /digest "abc" is not of the form/, "content", "info", "abc");
    await fails(3, /ingest "none" is not in namespace/, "content", "abort", "none");
    const config = blobs.find(({ digest }) => digest !== layer.digest)!;
    assert.equal(await ok("-n", "content", "content", "rm", config.digest), `${config.digest}\n`);
    assert.equal((await json<Blob[]>("-n", "content", "content", "ls")).length, 2);
  });

  test("berthd shows snapshots, their usage, and the snapshotters", async () => {
    await ok("-n", "layers", "pull", lab.image, "--snapshotter", "native");
    type Snapshot = { readonly key: string; readonly kind: string };
    assert.deepEqual(await json("-n", "layers", "snapshots", "ls"), [], "of overlayfs there is none");
    const [snapshot] = await json<Snapshot[]>("-n", "layers", "snapshots", "ls", "--snapshotter", "native");
    assert.equal(snapshot?.kind, "committed");
    const native = ["--snapshotter", "native"];
    const usage = await ok("-n", "layers", "snapshots", "usage", snapshot.key, ...native);
    assert.match(usage, /KEY +SIZE +INODES\nsha256:\S+ +\d.* MiB +\d+/);
    assert.match(await ok("-n", "layers", "snapshots", "info", snapshot.key, ...native), /Kind: +committed/);
    await fails(4, /is committed; mount a view/, "-n", "layers", "snapshots", "mounts", snapshot.key, ...native);
    await fails(3, /there is no snapshotter "zfss"/, "snapshots", "ls", "--snapshotter", "zfss");
    await fails(2, /"x" is not one of active, view, committed/, "snapshots", "ls", "--kind", "x");
    assert.match(await ok("snapshots", "snapshotters"), /overlayfs \(default\) +yes/);
    await ok("-n", "layers", "images", "rm", lab.image);
    assert.equal(await ok("-n", "layers", "snapshots", "rm", snapshot.key, ...native), `${snapshot.key}\n`);
    assert.deepEqual(await json("-n", "layers", "snapshots", "ls", ...native), []);
  });

  test("berthd keeps by a lease what a collection would remove, and tells what it would", async () => {
    const id = (await ok("-n", "leased", "leases", "create", "--expires", "1h", "--label", "owner=me")).trim();
    await ok("-n", "leased", "pull", lab.image, "--lease", id);
    await ok("-n", "leased", "images", "rm", lab.image);
    assert.match(await ok("-n", "leased", "leases", "ls", "labels.owner==me"), new RegExp(`${id} +\\S+ +20`));
    assert.match(await ok("-n", "leased", "leases", "resources", id), /content +sha256:/);
    await ok("gc");
    assert.equal((await json<Blob[]>("-n", "leased", "content", "ls")).length, 3, "the lease holds it");
    await ok("-n", "leased", "leases", "add", id, "images", "docker.io/library/x:1");
    await ok("-n", "leased", "leases", "release", id, "images", "docker.io/library/x:1");
    await fails(3, /lease "nope"/, "-n", "leased", "leases", "add", "nope", "images", "x");
    await fails(3, /lease/, "-n", "other", "leases", "resources", id);
    await ok("-n", "leased", "leases", "rm", id);
    assert.match(await ok("gc", "--dry-run"), /content +leased +sha256:\S+ .*\n[^]*would be removed/);
    assert.equal((await json<Blob[]>("-n", "leased", "content", "ls")).length, 3, "a dry run removes nothing");
    assert.match(await ok("gc"), /3 blobs.* removed/);
    assert.deepEqual(await json("-n", "leased", "content", "ls"), []);
    assert.match(await ok("gc", "status"), /Collections: +.*by request/);
  });

  test("berthd status tells of the node, and the socket is root's alone", async () => {
    const status = await ok("status");
    assert.match(status, /Node: +node-1\n/);
    assert.match(status, /Runtimes: +runc\n/);
    assert.equal(statSync(join(lab.agent.state, "berthd.sock")).mode & 0o777, 0o600);
    const stranger = await runBerthd(["status"], { env: env(), uid: 65534 });
    assert.equal(stranger.code, 5, stranger.stderr);
    assert.match(stranger.stderr, /you may not open .*berthd\.sock: it is root's/);
  });

  test("pullImage tells of progress that never goes back, and gives the image last", async () => {
    using client = createGrpcClient(ImageService, { endpoint: `unix:${join(lab.agent.state, "berthd.sock")}` });
    const gatedImage = await freshImage("progress");
    gated.close();
    const seen: Progress[] = [];
    let last = "";
    for await (const { event } of client.pullImage({ namespace: "progress", image: gatedImage })) {
      last = event.case ?? "";
      if (event.case === "progress") seen.push(event.value);
      if (gated.waiting > 0) gated.open();
    }
    assert.equal(last, "done");
    const offsets = seen.map(({ offsetBytes }) => offsetBytes);
    assert.deepEqual(
      offsets,
      offsets.toSorted((a, b) => Number(a - b)),
    );
    assert.deepEqual(
      seen.at(-1)?.blobs.map(({ state }) => state),
      ["done"],
    );
    assert.equal(seen.at(-1)?.offsetBytes, seen.at(-1)?.totalBytes);
  });

  test("Ctrl-C during berthd pull calls the pull off, and the next one goes on", async () => {
    const gatedImage = await freshImage("cancel");
    gated.close();
    const child = startBerthd(["-n", "cancel", "pull", gatedImage], { env: env() });
    const result = resultOf(child);
    await eventually("the transfer stands at the gate", () => gated.waiting === 1);
    const left = gated.left;
    child.kill("SIGINT");
    assert.equal((await result).code, 130);
    await eventually("the agent has hung up", () => gated.left === left + 1);
    assert.deepEqual(await json("-n", "cancel", "images", "ls"), []);
    gated.open();
    await ok("-n", "cancel", "pull", gatedImage);
    assert.equal((await json<Named[]>("-n", "cancel", "images", "ls")).length, 1);
  });

  test("berthd pull draws a bar for each layer on a terminal, in place", async () => {
    const gatedImage = await freshImage("bars");
    gated.close();
    const { masterFd, slaveFd } = openPty({ columns: 100, rows: 30 });
    const child = spawn("setsid", ["--ctty", "--wait", BERTHD, "-n", "bars", "pull", gatedImage], {
      stdio: [slaveFd, slaveFd, slaveFd],
      env: berthdEnv({ TERM: "xterm", ...env() }),
    });
    closeSync(slaveFd);
    const ended = once(child, "exit");
    const master = new ReadStream(masterFd);
    let drawn = "";
    master.on("data", (chunk: Buffer) => (drawn += chunk.toString()));
    master.on("error", () => master.destroy());
    await eventually("a bar", () => /sha256:\w{12} {2}█*░+ +\d+% +downloading/.test(stripVTControlCharacters(drawn)));
    gated.open();
    assert.equal((await ended)[0], 0);
    await eventually("the end", () => drawn.includes("unpacked with overlayfs"));
    assert.ok(drawn.includes("\u001b[2A\u001b[2K"), "drawn over");
    assert.match(stripVTControlCharacters(drawn), /█{24} 100% +done/);
  });

  test("berthd tells a pull that the agent was ended under it", async () => {
    const gatedImage = await freshImage("ended");
    gated.close();
    const child = startBerthd(["-n", "ended", "pull", gatedImage], { env: env() });
    const result = resultOf(child);
    await eventually("the transfer stands at the gate", () => gated.waiting === 1);
    await lab.agent.stop();
    const { code, stderr } = await result;
    assert.equal(code, 6, stderr);
    assert.match(stderr, /berthd: .*(stopping|ended)/);
    const gone = await runBerthd(["status"], { env: env() });
    assert.deepEqual([gone.code, /is berthd running\?/.test(gone.stderr)], [6, true], gone.stderr);
    gated.open();
    await lab.agent.start();
    await ok("-n", "ended", "pull", gatedImage);
  });

  test("a socket that a killed agent left is replaced", async () => {
    await lab.agent.kill();
    const dead = await runBerthd(["status"], { env: env() });
    assert.deepEqual([dead.code, /nobody listens at/.test(dead.stderr)], [6, true], dead.stderr);
    await lab.agent.start();
    await ok("status");
    assert.deepEqual(lab.leftovers(), []);
  });
});
