import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock, type Digest } from "@berth/base";
import { failureOf } from "../testing/failure.ts";
import { openGcLab } from "../testing/gc-lab.ts";
import type { ImageReferences } from "./references.ts";

const HOUR_MS = 3_600_000;
const GC = "containerd.io/gc";

test("run removes content and snapshots that nothing refers to, in all namespaces, and nothing else", async () => {
  await using lab = await openGcLab();
  const base = await lab.image("shop", "docker.io/library/base:1", { layers: 2 });
  const app = await lab.image("shop", "docker.io/library/app:1", { base });
  await lab.image("toys", "docker.io/library/app:1");
  await lab.blob("never-pulled", "written by a client");
  await lab.snapshots.namespace("never-pulled").prepare("left", "");
  await lab.images.remove("shop", base.name);
  await lab.images.remove("toys", "docker.io/library/app:1");
  const report = await lab.images.gc.run();
  assert.deepEqual([report.blobs, report.snapshots, report.images], [2 + 3 + 1, 1 + 1, 0]);
  assert.deepEqual(await lab.contents("shop"), [...app.all].sort());
  assert.deepEqual((await lab.layers("shop")).sort(), [...app.chain].sort());
  assert.deepEqual([await lab.contents("toys"), await lab.contents("never-pulled")], [[], []]);
  const again = await lab.images.gc.run();
  assert.equal(again.blobs + again.snapshots, 0);
  const { collections, blobs, freedBytes } = lab.images.gc.counters();
  assert.deepEqual([collections.request, blobs, freedBytes], [2, 6, report.freedBytes]);
  assert.ok(freedBytes > 100);
});

test("run leaves what another namespace has of the same content and layers", async () => {
  await using lab = await openGcLab();
  const image = await lab.image("one", "docker.io/library/app:1", { sizeBytes: 5_000 });
  for (const digest of image.all) await lab.content.share("two", digest as Digest);
  await lab.snapshots.namespace("two").share(image.chain[0]!);
  await lab.images.remove("one", image.name);
  await lab.images.leases.create("two", { id: "l" });
  await lab.images.leases.addResource("two", "l", { type: "content", id: image.manifest });
  const report = await lab.images.gc.run();
  assert.deepEqual([report.blobs, report.snapshots, report.freedBytes], [3, 1, 0]);
  assert.deepEqual([await lab.contents("one"), await lab.layers("one")], [[], []]);
  assert.equal((await lab.contents("two")).length, 3);
  assert.deepEqual(await lab.layers("two"), image.chain);
});

test("run obeys containerd's reference labels of content, snapshots, images and containers", async () => {
  const containers: NonNullable<ImageReferences["containers"]>[number][] = [];
  await using lab = await openGcLab({ references: async () => ({ snapshots: [], containers }) });
  const kept: string[] = [];
  const keep = async (data: string, labels?: Record<string, string>): Promise<Digest> => {
    const digest = await lab.blob("shop", data, labels);
    kept.push(digest);
    return digest;
  };
  const view = lab.snapshots.namespace("shop");
  const snapshot = (key: string, labels: Record<string, string> = {}) => view.prepare(key, "", { labels });
  // A root, by steps of labels, with names behind `.` and `/`.
  await snapshot("by-content");
  const leaf = await keep("leaf", { [`${GC}.ref.snapshot.overlayfs/x`]: "by-content" });
  const middle = await keep("middle", { [`${GC}.ref.content.l.0`]: leaf });
  await keep("root", { [`${GC}.root`]: "yes", [`${GC}.ref.content/m`]: middle });
  // A snapshot that is a root, and one that holds content.
  const bySnapshot = await keep("by snapshot");
  await snapshot("root", { [`${GC}.root`]: "yes", [`${GC}.ref.content`]: bySnapshot });
  // Back references: a child that lives as long as its parent.
  await keep("child of content", { [`${GC}.bref.content.x`]: leaf });
  await keep("child of snapshot", { [`${GC}.bref.snapshot.overlayfs`]: "root" });
  await snapshot("child", { [`${GC}.bref.snapshot.overlayfs/a`]: "root" });
  const image = await lab.image("shop", "docker.io/library/app:1");
  kept.push(...image.all);
  await keep("child of image", { [`${GC}.bref.image`]: image.name });
  // A container: its snapshot, its labels, what refers back to it.
  await snapshot("rootfs");
  const byContainer = await keep("by container");
  const labels = { [`${GC}.ref.content`]: byContainer };
  containers.push({ namespace: "shop", id: "web", image: "", snapshotter: "overlayfs", snapshotKey: "rootfs", labels });
  await keep("child of container", { [`${GC}.bref.container`]: "web" });
  // An expired image that a root refers to.
  const clock = new Date(Date.now() - HOUR_MS).toISOString();
  const old = await lab.image("shop", "docker.io/library/old:1", { labels: { [`${GC}.expire`]: clock } });
  await keep("refers to image", { [`${GC}.root`]: "yes", [`${GC}.ref.image`]: old.name });
  kept.push(...old.all);
  // And what none of this holds.
  for (const [data, label, value] of [
    ["no parent", `${GC}.bref.content`, `sha256:${"0".repeat(64)}`],
    ["another namespace's", `${GC}.bref.container`, "api"],
    ["not a label", `${GC}.refcontent`, leaf],
    ["loop 1", `${GC}.bref.image`, "docker.io/library/none:1"],
  ] as const) {
    await lab.blob("shop", data, { [label]: value });
  }
  await snapshot("loose");
  const report = await lab.images.gc.run();
  assert.deepEqual([report.blobs, report.snapshots, report.images], [4, 1, 0]);
  assert.deepEqual(await lab.contents("shop"), kept.sort());
  const layers = (await lab.layers("shop")).filter((key) => !key.startsWith("sha256:"));
  assert.deepEqual(layers.sort(), ["by-content", "child", "root", "rootfs"]);
});

test("run judges a manifest with labels by them: a layer that a client left out goes, as after unpacking", async () => {
  await using lab = await openGcLab();
  const image = await lab.image("shop", "docker.io/library/app:1", { layers: 2 });
  const labels = { [`${GC}.ref.content.config`]: image.config, [`${GC}.ref.content.l.1`]: image.blobs[1]! };
  await lab.content.update("shop", image.manifest, labels);
  await lab.images.gc.run();
  assert.deepEqual(await lab.contents("shop"), [image.manifest, image.config, image.blobs[1]!].sort());
  assert.equal((await lab.layers("shop")).length, 2);
});

test("run obeys gc.expire of images and contents, unless they are pinned or used", async () => {
  const clock = new ManualClock(Date.now());
  const references = async (): Promise<ImageReferences> => ({
    snapshots: [],
    images: [{ namespace: "shop", name: "used:1", reason: "used by a test" }],
  });
  await using lab = await openGcLab({ clock, references });
  const labels = { [`${GC}.expire`]: new Date(clock.nowMs() + HOUR_MS).toISOString() };
  for (const name of ["app", "pinned", "used"]) await lab.image("shop", `docker.io/library/${name}:1`, { labels });
  await lab.image("shop", "docker.io/library/odd:1", { labels: { [`${GC}.expire`]: "some day" } });
  const content = await lab.blob("shop", "for an hour", labels);
  await lab.images.pins.pin("shop", "pinned:1", { until: clock.nowMs() + 3 * HOUR_MS });
  assert.equal((await lab.images.gc.run()).blobs, 0);
  clock.advance(2 * HOUR_MS);
  const [first, ...rest] = (await lab.images.gc.run({ dryRun: true })).removed;
  assert.equal(`${first!.kind} ${first!.key}`, "image docker.io/library/app:1");
  assert.equal(first!.reason, "image expired 60 min ago");
  assert.equal(rest.length, 5, "its three contents, its layer, and what was for an hour");
  const report = await lab.images.gc.run();
  assert.deepEqual([report.images, report.blobs], [1, 4]);
  assert.equal(await lab.content.has("shop", content), false);
  clock.advance(2 * HOUR_MS);
  assert.equal((await lab.images.gc.run()).images, 1, "the pin has ended");
  const left = (await lab.images.list("shop")).map(({ name }) => name);
  assert.deepEqual(left, ["docker.io/library/odd:1", "docker.io/library/used:1"]);
});

test("run makes a dry run that names each thing and why it goes or stays, and changes nothing", async () => {
  await using lab = await openGcLab();
  const keptImage = await lab.image("shop", "docker.io/library/app:1");
  const image = await lab.image("shop", "docker.io/library/gone:1", { sizeBytes: 4_000 });
  await lab.images.remove("shop", image.name);
  await lab.images.leases.create("shop", { id: "l1" });
  const leased = await lab.blob("shop", "leased");
  await lab.images.leases.addResource("shop", "l1", { type: "content", id: leased });
  const { mutations } = lab.images.gc.changes();
  const dry = await lab.images.gc.run({ dryRun: true });
  assert.deepEqual([dry.dryRun, dry.blobs, dry.snapshots], [true, 3, 1]);
  const items = new Map(dry.removed.map((item) => [item.key, item]));
  assert.deepEqual(items.get(image.blobs[0]!), {
    kind: "content",
    namespace: "shop",
    key: image.blobs[0],
    bytes: 4_000,
    reason: "no reference",
  });
  assert.equal(items.get(`overlayfs/${image.chain[0]}`)?.bytes, 4_000);
  const stays = new Map(dry.kept.map(({ key, reason }) => [key, reason]));
  assert.match(stays.get(keptImage.name)!, /^has its name, last used \d{4}-/);
  assert.equal(stays.get(leased), 'lease "l1"');
  assert.equal((await lab.contents("shop")).length, 7);
  assert.deepEqual(lab.images.gc.counters().collections, {});
  assert.ok(lab.images.gc.changes().mutations >= mutations, "the changes still call for a collection");
  const report = await lab.images.gc.run({ details: true });
  assert.deepEqual(report.removed, dry.removed);
  assert.deepEqual([report.blobs, report.snapshots, report.freedBytes], [dry.blobs, dry.snapshots, dry.freedBytes]);
  assert.deepEqual(lab.images.gc.changes(), { mutations: 0, deletions: 0 });
});

test("run leaves what became referenced after its mark: by a lease, a name, a label", async () => {
  const late = { lease: "" as Digest, label: "" as Digest, parent: "" as Digest };
  const steps: (() => Promise<unknown>)[] = [];
  await using lab = await openGcLab({ onDelete: async () => void (await steps.shift()?.()) });
  const image = await lab.image("shop", "docker.io/library/app:1", { layers: 2 });
  await lab.images.remove("shop", image.name);
  late.lease = await lab.blob("shop", "leased meanwhile");
  late.label = await lab.blob("shop", "labelled meanwhile");
  late.parent = await lab.blob("shop", "parent", { [`${GC}.root`]: "x" });
  // In the order of digests, these are swept before anything else, one by one.
  const first: string[] = [];
  for (let i = 0; first.length < 4; i += 1) first.push(await lab.blob("first", `f${i}`));
  await lab.images.leases.create("shop", { id: "l" });
  steps.push(async () => {
    // One transaction under way, not yet visible, when the sweep looks again.
    const added = lab.images.leases.addResource("shop", "l", { type: "content", id: late.lease });
    await Promise.all([
      added,
      lab.content.update("shop", late.parent, { [`${GC}.root`]: "x", [`${GC}.ref.content.1`]: late.label }),
      lab.metadata.transact([
        {
          sql: "INSERT INTO images VALUES ('shop', 'docker.io/library/again:1', 'm', ?, 1, ?, '{}', 0, 0)",
          params: [image.manifest, image.manifest],
        },
      ]),
    ]);
  });
  const report = await lab.images.gc.run();
  assert.equal(report.blobs, 4);
  const expected = [...image.all, late.lease, late.label, late.parent].sort();
  assert.deepEqual(await lab.contents("shop"), expected);
});

test("run can be called off between removals, and another one goes on", async () => {
  const abort = new AbortController();
  let deletions = 0;
  await using lab = await openGcLab({
    onDelete: async () => {
      deletions += 1;
      if (deletions === 5) abort.abort();
    },
  });
  for (let i = 0; i < 40; i += 1) await lab.blob("shop", `b${i}`);
  const error = await failureOf(lab.images.gc.run({ signal: abort.signal }));
  assert.equal(error.code, "CANCELLED");
  const left = (await lab.contents("shop")).length;
  assert.ok(left > 30 && left < 40, `${left} are left`);
  assert.equal((await lab.images.gc.run()).blobs, left);
  assert.equal(lab.images.gc.counters().failures, 1);
});

test("pin keeps an image's pin until it ends, by holder, and remove takes it along", async () => {
  const clock = new ManualClock();
  await using lab = await openGcLab({ clock });
  const { pins } = lab.images;
  await lab.image("shop", "docker.io/library/app:1");
  assert.equal((await failureOf(pins.pin("shop", "none:1"))).reason, "IMAGE_MISSING");
  assert.equal((await failureOf(pins.pin("shop", "app:1", { until: clock.nowMs() }))).code, "INVALID_ARGUMENT");
  await pins.pin("shop", "app:1");
  await pins.pin("shop", "app:1", { holder: "campaign-1", until: clock.nowMs() + HOUR_MS });
  assert.deepEqual(
    (await pins.list("shop")).map(({ holder }) => holder),
    ["campaign-1", "user"],
  );
  clock.advance(HOUR_MS);
  assert.equal((await pins.list("shop")).length, 1);
  await pins.unpin("shop", "app:1");
  assert.equal((await failureOf(pins.unpin("shop", "app:1"))).reason, "PIN_MISSING");
  await pins.pin("shop", "app:1");
  await lab.images.remove("shop", "app:1");
  await lab.image("shop", "docker.io/library/app:1");
  assert.deepEqual(await pins.list("shop"), []);
});
