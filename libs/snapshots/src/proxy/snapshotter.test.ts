import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { retry } from "@berth/base";
import { mount, unmountUnder } from "@berth/linux";
import { Snapshots } from "@berth/proto/containerd";
import { LABELS } from "../options.ts";
import { hasProgram } from "../program.ts";
import { snapshotterConformance } from "../testing/conformance.ts";
import { collected, layer, type ConformanceHost } from "../testing/layers.ts";
import { randomOperations } from "../testing/random.ts";
import { probe } from "./probe.ts";
import { openProxy, type ProxyConfig } from "./snapshotter.ts";
import { connectTo, socketPath } from "./transport.ts";

const SERVER = new URL("../testing/proxy-server.ts", import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;
const skip = isRoot ? false : "needs root";

const scratch = realpathSync(mkdtempSync(join(tmpdir(), "berth-proxy-")));
if (isRoot) mount({ type: "tmpfs", source: "tmpfs", target: scratch, options: ["mode=755"] });
const running: ChildProcess[] = [];
after(async () => {
  for (const child of running) await stop(child);
  unmountUnder(scratch, { detach: true });
  rmSync(scratch, { recursive: true, force: true });
});

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGTERM");
  await closed;
}

let count = 0;

/** The server process of all tests; its socket. */
let remote: Promise<string> | undefined;

async function startServer(): Promise<string> {
  const directory = join(scratch, "remote");
  mkdirSync(directory);
  const address = join(directory, "s");
  const child = spawn(process.execPath, [SERVER, directory, address], { stdio: ["pipe", "pipe", "inherit"] });
  running.push(child);
  await once(child.stdout, "data");
  return address;
}

/** A client with a namespace, and so with records, of its own. */
async function served(t: TestContext, capabilities: ProxyConfig["capabilities"] = []): Promise<ConformanceHost> {
  const address = await (remote ??= startServer());
  return await clientOf(t, { name: "remote", address, capabilities, namespace: `ns-${(count += 1)}` }, scratch);
}

async function clientOf(t: TestContext, config: ProxyConfig, directory: string): Promise<ConformanceHost> {
  const mountDir = mkdtempSync(join(directory, "mounts-"));
  let snapshotter = await openProxy({}, config);
  t.after(() => snapshotter[Symbol.asyncDispose]());
  return {
    mountDir,
    get snapshotter() {
      return snapshotter;
    },
    async reopen() {
      await snapshotter[Symbol.asyncDispose]();
      return (snapshotter = await openProxy({}, config));
    },
  };
}

snapshotterConformance("proxy of another process", (t) => served(t, ["rebase", "remap-ids"]), {
  skip,
  keepsGivenUsage: false,
});

test("a proxy agrees with the model under random operations", { skip }, async (t) => {
  await randomOperations(await served(t), { seed: 31, operations: 120 });
});

test("a proxy's sockets are their owner's, and what is wrong with one is said", { skip }, async (t) => {
  await served(t);
  const address = await remote!;
  assert.equal(statSync(address).mode & 0o777, 0o600);
  assert.deepEqual(await probe({ name: "remote", address: `unix://${address}` }), { usable: true });
  const reason = async (config: ProxyConfig): Promise<string> => {
    const answer = await probe(config);
    return answer.usable ? "usable" : answer.reason;
  };
  assert.match(await reason({ name: "remote", address: join(scratch, "none") }), /there is no socket at .*none/);
  const stale = join(scratch, "stale");
  writeFileSync(stale, "");
  assert.match(await reason({ name: "remote", address: stale }), /stale.*ECONNREFUSED/);
  using nameless = await connectTo(address, "");
  await assert.rejects(nameless.call(Snapshots.method.stat, { snapshotter: "remote", key: "k" }), {
    code: "FAILED_PRECONDITION",
    message: /containerd-namespace/,
  });
  const gone = await clientOf(t, { name: "remote", address: stale }, scratch);
  await assert.rejects(gone.snapshotter.stat("k"), { code: "UNAVAILABLE", reason: "SNAPSHOT_PROXY_UNREACHABLE" });
});

test("update takes containerd's field masks, and list its filters", { skip }, async (t) => {
  const host = await served(t);
  await layer(host, "base", "", (root) => writeFileSync(join(root, "f"), ""));
  await host.snapshotter.prepare("k", "base", { labels: { a: "1", b: "2" } });
  using direct = await connectTo(await remote!, `ns-${count}`);
  const update = (labels: Record<string, string>, paths: string[]): Promise<unknown> =>
    direct.call(Snapshots.method.update, {
      snapshotter: "remote",
      info: { name: "k", labels },
      updateMask: { paths },
    });
  await update({ a: "9", c: "ignored" }, ["labels.a", "labels.b"]);
  assert.deepEqual((await host.snapshotter.stat("k")).labels, { a: "9" });
  await assert.rejects(update({}, ["parent"]), { code: "INVALID_ARGUMENT" });
  const names = async (...filters: string[]): Promise<string[]> => {
    const answers = await collected(direct.stream(Snapshots.method.list, { snapshotter: "remote", filters }));
    return answers.flatMap(({ info }) => info.map(({ name }) => name)).sort();
  };
  assert.deepEqual(await names(), ["base", "k"]);
  assert.deepEqual(await names("kind==committed"), ["base"]);
  assert.deepEqual(await names("parent==base,labels.a==9", "name==nothing"), ["k"]);
  assert.deepEqual(await names("parent"), ["k"]);
  await assert.rejects(names("kind=="), { code: "INVALID_ARGUMENT" });
});

test("labels that ask for something reach the other side; a bound needs its word for it", { skip }, async (t) => {
  const host = await served(t, ["quota"]);
  // The server's overlayfs lies on a file system without project quotas, and says so.
  await assert.rejects(host.snapshotter.prepare("k", "", { maxBytes: 1 << 20 }), {
    code: "UNIMPLEMENTED",
    message: /cannot bound its size/,
  });
  await layer(host, "base", "", () => {});
  const [mount] = await host.snapshotter.prepare("k", "base", { volatile: true });
  assert.ok(mount!.options.includes("volatile"));
  assert.deepEqual((await host.snapshotter.stat("k")).labels, { [LABELS.volatile]: "true" });
});

test("socketPath takes an address as containerd's configuration has it", () => {
  for (const text of ["/run/x.sock", "unix:/run/x.sock", "unix:///run/x.sock"]) {
    assert.equal(socketPath(text), "/run/x.sock");
  }
});

// Debian's containerd, on directories of its own.

const withoutContainerd = skip || (hasProgram("containerd") ? false : "needs containerd");
let containerd: string | undefined;

async function startContainerd(): Promise<string> {
  const directory = join(scratch, "containerd");
  mkdirSync(directory);
  const [config, address] = [join(directory, "config.toml"), join(directory, "c.sock")];
  writeFileSync(config, `version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n`);
  const options = ["--root", join(directory, "root"), "--state", join(directory, "state"), "--address", address];
  const child = spawn("containerd", ["--config", config, "--log-level", "error", ...options], { stdio: "ignore" });
  running.push(child);
  const patience = { maxAttempts: 200, backoff: { initialMs: 25, maxMs: 200, factor: 1.5 }, retryable: () => true };
  await retry(async () => {
    const answer = await probe({ name: "native", address });
    if (!answer.usable) throw new Error(`containerd: ${answer.reason}`);
  }, patience);
  return address;
}

for (const snapshotter of ["overlayfs", "native"]) {
  // A namespace for each test: its own records.
  snapshotterConformance(
    `proxy of containerd's ${snapshotter}`,
    async (t) => {
      const address = (containerd ??= await startContainerd());
      const namespace = `test-${(count += 1)}`;
      return await clientOf(t, { name: "theirs", address, snapshotter, namespace }, scratch);
    },
    {
      skip: withoutContainerd,
      keepsGivenUsage: false,
      commitKeepsName: false,
      keepsRootMode: snapshotter !== "overlayfs",
    },
  );
}

test("containerd does not collect what we made", { skip: withoutContainerd }, async (t) => {
  const address = (containerd ??= await startContainerd());
  const config = { name: "theirs", address, snapshotter: "overlayfs", namespace: "collect" };
  const host = await clientOf(t, config, scratch);
  await layer(host, "base", "", (root) => writeFileSync(join(root, "f"), ""));
  using direct = await connectTo(address, "collect");
  const { info } = await direct.call(Snapshots.method.stat, { snapshotter: "overlayfs", key: "base" });
  assert.deepEqual(info?.labels, { "containerd.io/gc.root": "berth" });
  assert.deepEqual((await host.snapshotter.stat("base")).labels, {});
  const unknown = await probe({ ...config, snapshotter: "nonsense" });
  assert.match(unknown.usable ? "" : unknown.reason, /nonsense/);
});
