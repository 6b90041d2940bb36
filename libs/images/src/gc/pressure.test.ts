import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { diskInfo, mount, unmountAll, unmountUnder } from "@berth/linux";
import { openGcLab } from "../testing/gc-lab.ts";
import { startTestHost } from "../testing/host.ts";
import { buildImage, type BuiltImage } from "../testing/image.ts";
import { serveImages } from "../testing/image-server.ts";
import { buildTar } from "../testing/tar.ts";
import { needed } from "./pressure.ts";
import type { ImageReferences } from "./references.ts";

const MIB = 1024 * 1024;
const WATERMARKS = { highPercent: 85, lowPercent: 70 };
const skip = process.getuid?.() === 0 ? false : "needs root, to mount a small file system";

/** A file system of a known size, to be filled by images. */
async function smallDisk(sizeMiB: number): Promise<AsyncDisposable & { readonly root: string }> {
  const root = await mkdtemp(join(tmpdir(), "berth-gc-disk-"));
  mount({ type: "tmpfs", source: "tmpfs", target: root, options: [`size=${sizeMiB}m`] });
  return {
    root,
    async [Symbol.asyncDispose]() {
      unmountUnder(root, { detach: true });
      unmountAll(root, { detach: true });
      await rm(root, { recursive: true, force: true });
    },
  };
}

function percentUsed(root: string): number {
  const { totalBytes, availableBytes } = diskInfo(root);
  return (100 * (totalBytes - availableBytes)) / totalBytes;
}

test("needed is what lies above the low watermark, once the high one is passed", () => {
  const config = { watermarks: { highPercent: 80, lowPercent: 50 } };
  assert.equal(needed({ totalBytes: 100, availableBytes: 20 }, config), undefined);
  assert.equal(needed({ totalBytes: 100, availableBytes: 19 }, config), 31);
  assert.equal(needed({ totalBytes: 0, availableBytes: 0 }, config), undefined);
  assert.equal(needed({ totalBytes: 100, availableBytes: 1 }, {}), undefined);
});

test("run frees a full disk by the least recently used images that nothing protects", { skip }, async () => {
  await using disk = await smallDisk(64);
  const { root } = disk;
  const containers: NonNullable<ImageReferences["containers"]>[number][] = [];
  await using lab = await openGcLab({
    root,
    gc: { watermarks: WATERMARKS },
    disk: () => diskInfo(root),
    references: async () => ({ snapshots: [], containers }),
  });
  const put = async (name: string, hour: number, base?: Awaited<ReturnType<typeof lab.image>>) =>
    await lab.image("shop", `docker.io/library/${name}:1`, {
      sizeBytes: 3 * MIB,
      usedAtMs: Date.UTC(2024, 0, 1, hour),
      ...(base === undefined ? {} : { base }),
    });
  const used = await put("used", 0);
  await put("pinned", 1);
  const leased = await put("leased", 2);
  const base = await put("base", 3);
  await put("oldest", 4);
  await put("older", 5);
  await put("on-base", 6, base);
  await put("newer", 7);
  await put("newest", 8);
  const image = used.name;
  await lab.snapshots.namespace("shop").prepare("web", used.chain[0]!);
  containers.push({ namespace: "shop", id: "web", image, snapshotter: "overlayfs", snapshotKey: "web", labels: {} });
  await lab.images.pins.pin("shop", "pinned:1");
  await lab.images.leases.create("shop", { id: "l" });
  await lab.images.leases.addResource("shop", "l", { type: "content", id: leased.manifest });
  assert.ok(percentUsed(root) > 85, `${percentUsed(root)} % are used`);
  assert.ok(lab.images.gc.isDiskPressing());
  const dry = await lab.images.gc.run({ trigger: "watermark", dryRun: true });
  const evicted = dry.removed.filter(({ kind }) => kind === "image");
  assert.ok(evicted.every(({ reason }) => reason === "least recently used, high watermark 85 %"));
  const content = dry.removed.find(({ kind }) => kind === "content");
  assert.equal(content?.reason, "least recently used, high watermark 85 %");
  const stays = new Map(dry.kept.map(({ key, reason }) => [key, reason]));
  assert.equal(stays.get(used.name), 'used by container "web"');
  assert.equal(stays.get("docker.io/library/pinned:1"), 'pinned by "user"');
  assert.equal(stays.get(leased.name), 'lease "l"');
  const report = await lab.images.gc.run({ trigger: "watermark" });
  assert.equal(report.images, evicted.length);
  assert.equal(report.shortfall, undefined);
  assert.ok(percentUsed(root) <= 70.5, `${percentUsed(root)} % are used`);
  assert.equal(lab.images.gc.isDiskPressing(), false);
  const left = (await lab.images.list("shop")).map(({ name }) => /library\/(.+):1$/.exec(name)![1]!);
  // The base alone would give nothing while what stands on it stays.
  assert.deepEqual(left.sort(), ["base", "leased", "newer", "newest", "on-base", "pinned", "used"]);
  assert.deepEqual(evicted.map(({ key }) => key).sort(), ["docker.io/library/older:1", "docker.io/library/oldest:1"]);
});

test("run says what it could not free, and why", { skip }, async () => {
  await using disk = await smallDisk(32);
  const { root } = disk;
  const images = [{ namespace: "shop", name: "b:1", reason: "wanted by campaign c1" }];
  await using lab = await openGcLab({
    root,
    gc: { watermarks: { highPercent: 40, lowPercent: 10 } },
    disk: () => diskInfo(root),
    references: async () => ({ snapshots: [], images }),
  });
  for (const name of ["a", "b", "c"]) await lab.image("shop", `docker.io/library/${name}:1`, { sizeBytes: 3 * MIB });
  await lab.images.pins.pin("shop", "c:1");
  const report = await lab.images.gc.run({ trigger: "watermark" });
  assert.equal(report.images, 1);
  assert.match(report.shortfall!, /^the disk stays [\d.]+ MiB above its low watermark: images that stay: /);
  assert.match(report.shortfall!, /1 wanted by, 1 pinned by|1 pinned by, 1 wanted by/);
  assert.equal((await lab.images.list("shop")).length, 2);
});

test("run keeps each namespace within its quota, by its own least recently used images", async () => {
  const gc = { cacheQuotaBytes: 5 * MIB, cacheQuotas: { free: 0, small: 1 * MIB } };
  await using lab = await openGcLab({ gc });
  const put = async (namespace: string, name: string, hour: number) =>
    await lab.image(namespace, `docker.io/library/${name}:1`, { sizeBytes: MIB, usedAtMs: Date.UTC(2024, 0, 1, hour) });
  for (const namespace of ["shop", "free", "small"]) {
    await put(namespace, "first", 1);
    await put(namespace, "second", 2);
    await put(namespace, "third", 3);
  }
  await lab.images.pins.pin("small", "first:1");
  const dry = await lab.images.gc.run({ dryRun: true });
  const why = dry.removed.find(({ kind, namespace }) => kind === "image" && namespace === "shop")!;
  assert.equal(why.reason, "least recently used, over the namespace's quota of 5.0 MiB");
  const report = await lab.images.gc.run({ trigger: "quota" });
  const names = async (namespace: string): Promise<string[]> =>
    (await lab.images.list(namespace)).map(({ name }) => /library\/(.+):1$/.exec(name)![1]!);
  assert.deepEqual(await names("shop"), ["second", "third"], "6 MiB of 5: one goes, the oldest");
  assert.deepEqual(await names("free"), ["first", "second", "third"]);
  assert.deepEqual(await names("small"), ["first"], "what is pinned stays though it is too much");
  assert.match(report.shortfall!, /namespace "small" stays 1\.0 MiB over its quota: .*1 pinned by/);
});

test("isQuotaDue tells of pulls and imports into a namespace with a quota, until a collection has looked at it", async () => {
  const image = (name: string): BuiltImage =>
    buildImage({ layers: [{ tar: buildTar([{ name, data: randomBytes(MIB) }]) }] });
  await using server = await serveImages({ one: image("one"), two: image("two") });
  await using host = await startTestHost({
    hosts: [{ host: server.host, plainHttp: true }],
    config: { gc: { cacheQuotas: { shop: 3 * MIB } } },
  });
  const { gc, transfer } = host.images;
  const pull = (namespace: string, name: string): Promise<unknown> =>
    host.images.pull({ namespace, image: `${server.host}/${name}:v1`, snapshotter: "overlayfs" });
  const held = async (): Promise<number> => (await host.images.list("shop")).length;
  await pull("free", "one");
  assert.equal(gc.isQuotaDue(), false, "it has no quota");
  await pull("shop", "one");
  await gc.run({ dryRun: true });
  assert.equal(gc.isQuotaDue(), true);
  await gc.run({ trigger: "quota" });
  assert.deepEqual([gc.isQuotaDue(), await held()], [false, 1], "blob and layer are 2 of 3 MiB");
  await pull("shop", "two");
  assert.equal(gc.isQuotaDue(), true);
  await gc.run({ trigger: "quota" });
  assert.deepEqual([gc.isQuotaDue(), await held()], [false, 1]);
  const path = join(host.root, "one.tar");
  await transfer.export({ namespace: "free", images: [`${server.host}/one:v1`], target: { kind: "file", path } });
  await transfer.import({ namespace: "shop", source: { kind: "file", path } });
  assert.equal(gc.isQuotaDue(), true);
});

test("run does not evict what was used since it began to choose", async () => {
  await using lab = await openGcLab({
    gc: { cacheQuotaBytes: 1 },
    references: async () => {
      // A task begins while the graph is being read.
      await lab.images.unpacked("shop", "starting:1", "overlayfs");
      return { snapshots: [] };
    },
  });
  await lab.image("shop", "docker.io/library/starting:1", { usedAtMs: 1 });
  await lab.image("shop", "docker.io/library/idle:1", { usedAtMs: 2 });
  await lab.images.gc.run();
  const left = (await lab.images.list("shop")).map(({ name }) => name);
  assert.deepEqual(left, ["docker.io/library/starting:1"]);
  assert.equal((await lab.images.unpacked("shop", "starting:1", "overlayfs")).chainId.length, 71);
});

test("uses are written together, and order images after a restart", async () => {
  const root = await mkdtemp(join(tmpdir(), "berth-gc-uses-"));
  try {
    {
      await using lab = await openGcLab({ root });
      for (const name of ["a", "b"]) await lab.image("shop", `docker.io/library/${name}:1`, { usedAtMs: 1_000 });
      await lab.images.unpacked("shop", "a:1", "overlayfs");
      const row = lab.metadata.get("SELECT used_at_ms AS at FROM image_uses WHERE name = 'docker.io/library/a:1'");
      assert.equal(row?.["at"], 1_000, "a start costs no write");
    }
    await using lab = await openGcLab({ root, gc: { cacheQuotaBytes: 1_000 } });
    await lab.images.gc.run();
    const left = (await lab.images.list("shop")).map(({ name }) => name);
    assert.deepEqual(left, ["docker.io/library/a:1"]);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
