/** `berthd doctor`, `verify` and `backup` on the data root of an agent that does not run, with a real image in it. */
import assert from "node:assert/strict";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { digestHex, Lifetime, silentLogger, type Digest } from "@berth/base";
import { loadAgentConfig, type AgentConfig } from "@berth/config";
import { openImages } from "@berth/images";
import { journalMigrations, openJournal, type Journal } from "@berth/journal";
import { mount, unmount } from "@berth/linux";
import { openMetadata } from "@berth/metadata";
import { Invoker, serveGrpc, validationInterceptor } from "@berth/rpc/server";
import { busyboxImage, pushImage, scratchDir, startRegistry, type RegistryServer } from "@berth/testkit";
import { lockDataRoot } from "../data-root-lock.ts";
import { careService } from "../doors/host/care.ts";
import { runDoctor } from "../doctor/doctor.ts";
import type { Finding } from "../doctor/finding.ts";
import { openStores } from "../host.ts";
import { runBerthd, type Result } from "../testing/berthd.ts";

const PATH = process.env["PATH"]!;
const lifetime = new Lifetime();
let dir: string;
let config: AgentConfig;
let layer: Digest;

/** `berthd --config FILE …` */
const berthd = (...args: string[]): Promise<Result> => runBerthd(["--config", join(dir, "agent.json"), ...args]);

before(async () => {
  ({ dir } = lifetime.own(scratchDir("berth-care")));
  const registry = lifetime.own(await startRegistry({ dir: join(dir, "registry"), host: "127.0.0.1" }));
  const file = join(dir, "agent.json");
  const registries = { [registry.address]: { plainHttp: true } };
  const urls = { redisUrl: "redis://127.0.0.1:1", natsUrl: "nats://127.0.0.1:1" };
  const [root, state] = [join(dir, "data"), join(dir, "run")];
  writeFileSync(file, JSON.stringify({ node: "node-1", root, state, registries, ...urls }));
  config = await loadAgentConfig({ file, env: {} });
  layer = await pullOnto(registry);
});
after(() => lifetime[Symbol.asyncDispose]());

/** @returns the digest of the largest blob: the layer */
async function pullOnto(registry: RegistryServer): Promise<Digest> {
  const { name } = await pushImage(registry, "test/busybox", "1", busyboxImage());
  await using stores = new Lifetime();
  const {
    metadata,
    content,
    snapshots,
    registry: client,
  } = await openStores(config, stores, { logger: silentLogger, path: PATH });
  const scratch = join(config.state, "images");
  const images = stores.own(
    await openImages({ metadata, content, snapshotters: snapshots, registry: client, scratch }),
  );
  await images.pull({ namespace: "shop", image: name, snapshotter: "overlayfs" });
  return content.held("", 10).toSorted((a, b) => b.sizeBytes - a.sizeBytes)[0]!.digest;
}

function blobPath(): string {
  return join(config.root, "content/blobs/sha256", digestHex(layer));
}

async function findings(): Promise<Map<string, Finding>> {
  return new Map((await runDoctor({ config, path: PATH })).map((finding) => [finding.check, finding]));
}

void test("doctor finds nothing wrong with a sound data root, and every finding that is not ok says what to do", async () => {
  const found = await findings();
  const data = [...found.values()].filter(({ check }) =>
    /^(database|files|permissions|leftovers|lock|clock)/.test(check),
  );
  assert.deepEqual(
    data.filter(({ status }) => status !== "ok"),
    [],
  );
  assert.ok(data.length >= 10);
  assert.match(found.get("files/blobs")!.detail, /^3 blobs have their files/);
  const without = await runDoctor({ config, path: "/nonexistent" });
  const conmon = without.find(({ check }) => check === "programs/conmon");
  assert.deepEqual([conmon?.status, conmon?.remedy], ["fail", "on Debian: apt install conmon"]);
  assert.ok(without.some(({ check, status }) => check === "programs/runtimes" && status === "fail"));
  for (const { status, remedy, check } of without) assert.equal(remedy === undefined, status === "ok", check);
});

void test("doctor finds what is damaged, left over or open to others, and changes nothing", async () => {
  const stray = join(config.root, "content/blobs/sha256", "0".repeat(64));
  const ghost = join(config.root, "snapshots/overlayfs/snapshots/ghost");
  const netns = join(config.state, "network/netns/shop");
  const left = join(config.state, "images/left");
  copyFileSync(blobPath(), `${dir}/kept`);
  truncateSync(blobPath(), 10);
  writeFileSync(stray, "nobody's");
  for (const directory of [ghost, netns, left]) mkdirSync(directory, { recursive: true });
  writeFileSync(join(netns, "gone"), "");
  mount({ type: "tmpfs", source: "tmpfs", target: left, options: [] });
  chmodSync(join(config.root, "metadata.db"), 0o644);
  try {
    const found = await findings();
    const status = (check: string): string => `${found.get(check)?.status}: ${found.get(check)?.detail}`;
    assert.match(status("files/blobs"), /^fail: 1 of 3 blobs are damaged: sha256:.* \(wrong size\)/);
    assert.match(status("files/content"), /^warn: 1 belong to no record: .*0000/);
    assert.match(status("files/snapshots/overlayfs"), /^warn: 1 belong to no record: .*ghost/);
    assert.match(status("leftovers/netns"), /^warn: 1 network namespaces .*shop\/gone \(1 of them empty/);
    assert.match(status("leftovers/mounts"), /^warn: 1 mounts .*images\/left/);
    assert.match(status(`permissions/${config.root}/metadata.db`), /^fail: has mode 644/);
    const { code, stdout, stderr } = await berthd("doctor", "--quiet", "-o", "json");
    assert.equal(code, 1);
    assert.match(stderr, /checks fail: .*files\/blobs/);
    const shown = (JSON.parse(stdout) as Finding[]).map(({ check }) => check);
    assert.ok(shown.includes("leftovers/mounts") && !shown.includes("lock"), stdout);
    assert.equal(statSync(blobPath()).size, 10);
    assert.ok(statSync(stray).isFile());
  } finally {
    unmount(left);
    for (const path of [stray, ghost, netns, left]) rmSync(path, { recursive: true });
    chmodSync(join(config.root, "metadata.db"), 0o600);
    rmSync(blobPath());
    copyFileSync(`${dir}/kept`, blobPath());
  }
});

void test("doctor sees a damaged database and a clock that is behind it", async () => {
  const path = join(config.root, "metadata.db");
  const copy = join(dir, "copy.db");
  assert.equal((await berthd("backup", copy)).code, 0);
  const later = await runDoctor({ config, path: PATH, nowMs: () => statSync(path).mtimeMs - 3_600_000 });
  assert.match(later.find(({ check }) => check === "clock")!.detail, /before the agent's last write/);
  const { size, atimeMs, mtimeMs } = statSync(path);
  truncateSync(path, size >> 1);
  utimesSync(path, atimeMs / 1_000, mtimeMs / 1_000);
  try {
    assert.equal((await findings()).get("database/integrity")?.status, "fail");
  } finally {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
    copyFileSync(copy, path);
    chmodSync(path, 0o600);
  }
  assert.equal((await findings()).get("database/integrity")?.status, "ok");
});

void test("verify mends a stopped agent's data root", async () => {
  rmSync(blobPath());
  const found = await berthd("verify");
  assert.equal(found.code, 1);
  assert.match(found.stdout, new RegExp(`^found: blob ${layer} \\(namespace shop\\): its file is gone`));
  const mended = await berthd("verify", "--repair", "--layers");
  assert.equal(mended.code, 0, mended.stderr);
  assert.match(mended.stdout, /^mended: blob .*\n3 blobs hashed \(.*\), 1 layers compared, 1 problems\n$/);
  const again = await berthd("verify", "--layers", "-o", "json");
  assert.deepEqual((JSON.parse(again.stdout) as { problems: unknown }).problems, []);
  assert.deepEqual(readdirSync(join(config.state, "verify")), []);
  assert.equal((await berthd("verify", "--rate", "fast")).code, 2);
  assert.equal((await berthd("verify", "--after", "me")).code, 2);
});

void test("verify is left to a running agent, whose stores nobody else may touch", async () => {
  await using _lock = await lockDataRoot(join(config.root, "agent.lock"));
  assert.match((await findings()).get("lock")!.detail, new RegExp(`held by the agent with pid ${process.pid}`));
  assert.equal((await berthd("verify", "--repair")).code, 6, "it does not answer");
  await using agent = new Lifetime();
  const stores = await openStores(config, agent, { logger: silentLogger, path: PATH });
  const gate = Promise.withResolvers<void>();
  const began = Promise.withResolvers<void>();
  let held = true;
  const verify: typeof stores.verify = async (options) => {
    began.resolve();
    if (held) await gate.promise;
    return await stores.verify(options);
  };
  const services = [careService({ verify })];
  const invoker = new Invoker(services, [validationInterceptor], { program: "berthd", callersAreTrusted: true });
  agent.own(await serveGrpc({ invoker }, { socketPath: join(config.state, "berthd.sock"), graceMs: 1_000 }));
  rmSync(blobPath());
  const first = berthd("verify", "--repair");
  await began.promise;
  const second = await berthd("verify");
  assert.match(second.stderr, /a verification runs already/);
  held = false;
  gate.resolve();
  const mended = await first;
  assert.equal(mended.code, 0, mended.stderr);
  assert.match(mended.stdout, /^mended: blob .*its file is gone\n3 blobs hashed/);
});

void test("backup copies what a living agent committed; restored, the data root begins a new journal epoch (D4)", async () => {
  const root = join(dir, "other");
  const path = join(root, "metadata.db");
  const open = async (body: (journal: Journal) => Promise<void>): Promise<void> => {
    await using metadata = await openMetadata({ path, migrations: journalMigrations });
    const markerPath = join(root, "journal.epoch");
    await using journal = await openJournal({ metadata, markerPath }, { node: "node-1", identity: "machine 1" });
    await body(journal);
  };
  const entry = { kind: "test", payload: Buffer.from("x") };
  const file = join(dir, "other.json");
  writeFileSync(file, JSON.stringify({ root, redisUrl: "redis://h:1", natsUrl: "nats://h:1" }));
  const copy = join(dir, "other.db");
  let before = "";
  await open(async (journal) => {
    before = (await journal.append([entry]))[0]!.epoch;
    const { code, stdout, stderr } = await runBerthd(["--config", file, "backup", copy]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /other\.db: .*, checked/);
    assert.equal((await runBerthd(["--config", file, "backup", copy])).code, 4, "never over a file that is there");
    await journal.append([entry, entry]);
  });
  for (const name of readdirSync(root)) if (name.startsWith("metadata.db")) rmSync(join(root, name));
  rmSync(join(root, "journal.epoch"));
  copyFileSync(copy, path);
  await open(async (journal) => {
    assert.equal(journal.reason, "restored");
    const [next] = await journal.append([entry]);
    assert.notEqual(next!.epoch, before);
    assert.equal(next!.seq, 1);
  });
});
