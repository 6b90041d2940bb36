import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { digestOf } from "@berth/base";
import type { ImageReferences } from "../index.ts";
import { failureOf } from "../testing/failure.ts";
import { startTestHost, type TestHost } from "../testing/host.ts";
import { buildTar } from "../testing/tar.ts";
import { amd, app, arm, sharedLayer, startWarehouse, type Warehouse } from "../testing/warehouse.ts";

let warehouse: Warehouse;
let host: TestHost;
let held: ImageReferences = { snapshots: [] };

before(async () => {
  warehouse = await startWarehouse();
  const hosts = [{ host: warehouse.registry.host, plainHttp: true }];
  host = await startTestHost({ hosts, references: async () => held });
});
after(async () => {
  await host[Symbol.asyncDispose]();
  await warehouse[Symbol.asyncDispose]();
});

async function pullAll(namespace: string): Promise<void> {
  for (const repository of ["app", "other", "multi"]) {
    await host.images.pull({ namespace, image: warehouse.name(repository), snapshotter: "overlayfs" });
  }
}

test("inspect tells what an image is made of, where it came from and what is here of it", async () => {
  await pullAll("looks");
  await host.images.tag({ namespace: "looks", image: warehouse.name("app"), tag: "local/app:mine" });
  const details = await host.images.inspection.inspect("looks", warehouse.name("app"));
  assert.deepEqual(details.names.toSorted(), [warehouse.name("app"), "docker.io/local/app:mine"].toSorted());
  assert.equal(details.manifest.digest, app.descriptor.digest);
  assert.deepEqual(
    details.layers.map(({ descriptor, diffId, present, unpacked }) => ({ ...descriptor, diffId, present, unpacked })),
    app.layers.map((layer, at) => ({ ...layer, diffId: app.diffIds[at], present: true, unpacked: ["overlayfs"] })),
  );
  assert.deepEqual(details.sources, [`${warehouse.registry.host}/app`]);
  assert.equal(
    details.compressedBytes,
    [app.manifest, ...app.blobs].reduce((total, { length }) => total + length, 0),
  );
  assert.ok(details.unpackedBytes! > 0);
  assert.deepEqual(details.verified, []);
  assert.equal(details.pinned, false);
  assert.ok(Math.abs(details.lastUsedAtMs! - Date.now()) < 600_000);
  const index = await host.images.inspection.inspect("looks", warehouse.name("multi"));
  const here = process.arch === "arm64" ? arm : amd;
  assert.deepEqual(
    index.platforms.map(({ platform, present }) => [platform!.architecture, present]),
    [amd, arm].map((one) => [one.descriptor.platform!.architecture, one === here]),
  );
  await host.images.pins.pin("looks", warehouse.name("multi"));
  assert.equal((await host.images.inspection.inspect("looks", warehouse.name("multi"))).pinned, true);
  // Another tenant sees nothing of it.
  assert.equal((await failureOf(host.images.inspection.inspect("shop", warehouse.name("app")))).code, "NOT_FOUND");
});

test("list selects by containerd's filters", async () => {
  await pullAll("lists");
  const names = async (...filters: string[]): Promise<string[]> =>
    (await host.images.list("lists", filters)).map(({ name }) => name);
  assert.equal((await names()).length, 3);
  assert.deepEqual(await names("name~=app"), [warehouse.name("app")]);
  assert.deepEqual(await names(`target.digest==${app.descriptor.digest}`), [warehouse.name("app")]);
  assert.deepEqual(await names('labels."team"==red'), []);
  assert.equal((await failureOf(names("name="))).reason, "FILTER_INVALID");
});

test("history joins the config's steps with the layers that they made", async () => {
  const config = {
    os: "linux",
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    rootfs: { type: "layers", diff_ids: [digestOf(sharedLayer.tar)] },
    history: [
      { created: "2024-01-02T03:04:05Z", created_by: "ADD shared", comment: "base", author: "me" },
      { created_by: "ENV A=1", empty_layer: true },
      "garbage",
    ],
  };
  const path = warehouse.place("history.tar");
  await writeFile(
    path,
    buildTar([
      { name: "c.json", data: JSON.stringify(config) },
      { name: "l.tar", data: sharedLayer.tar },
      { name: "manifest.json", data: JSON.stringify([{ Config: "c.json", RepoTags: ["told:1"], Layers: ["l.tar"] }]) },
    ]),
  );
  const request = { namespace: "tells", source: { kind: "file", path }, snapshotter: "overlayfs" } as const;
  await host.images.transfer.import(request);
  const [garbage, env, add] = await host.images.inspection.history("tells", "told:1");
  assert.equal(garbage!.layer, undefined);
  assert.deepEqual([env!.createdBy, env!.empty, env!.sizeBytes], ["ENV A=1", true, 0]);
  assert.deepEqual([add!.createdBy, add!.comment, add!.author], ["ADD shared", "base", "me"]);
  assert.equal(add!.createdAtMs, Date.parse("2024-01-02T03:04:05Z"));
  assert.equal(add!.layer!.digest, digestOf(sharedLayer.tar));
  assert.ok(add!.sizeBytes > 0);
  await pullAll("tells");
  const untold = await host.images.inspection.history("tells", warehouse.name("app"));
  assert.deepEqual(
    untold.map(({ layer }) => layer!.digest),
    app.layers.map(({ digest }) => digest).toReversed(),
  );
});

test("usage tells what images share, and what nothing refers to", async () => {
  await pullAll("uses");
  const usage = await host.images.inspection.usage("uses");
  assert.equal(usage.images.length, 3);
  assert.ok(usage.images.every(({ uniqueBytes, sharedBytes }) => uniqueBytes > 0 && sharedBytes > 0));
  assert.equal(usage.reclaimableBytes, 0);
  assert.equal(usage.totalBytes, usage.blobBytes + usage.snapshotBytes);
  const { uniqueBytes } = usage.images.find(({ name }) => name === warehouse.name("app"))!;
  await host.images.remove("uses", warehouse.name("app"));
  assert.equal((await host.images.inspection.usage("uses")).reclaimableBytes, uniqueBytes);
});

test("prune removes what nothing uses, says what stays and why, and tells before it does", async () => {
  const namespace = "prunes";
  await pullAll(namespace);
  const [used, pinned, loose] = ["app", "multi", "other"].map((repository) => warehouse.name(repository));
  const { chainId } = await host.images.unpacked(namespace, used!, "overlayfs");
  held = { snapshots: [{ namespace, snapshotter: "overlayfs", chainId }] };
  await host.images.pins.pin(namespace, pinned!);
  const { inspection } = host.images;
  const none = await inspection.prune({ namespace, olderThanMs: 3_600_000 });
  assert.deepEqual(none, { removed: [], kept: [], freedBytes: 0 });
  assert.deepEqual((await inspection.prune({ namespace, dangling: true })).removed, []);
  const filtered = await inspection.prune({ namespace, filters: ["name~=multi"], dryRun: true });
  assert.deepEqual(filtered.kept, [{ name: pinned, why: "pinned" }]);
  const told = await inspection.prune({ namespace, dryRun: true });
  assert.equal((await host.images.list(namespace)).length, 3);
  const done = await inspection.prune({ namespace });
  assert.deepEqual(done.removed, told.removed);
  assert.deepEqual(
    done.removed.map(({ name }) => name),
    [loose],
  );
  assert.deepEqual(
    done.kept.toSorted((a, b) => (a.why < b.why ? -1 : 1)),
    [
      { name: pinned, why: "pinned" },
      { name: used, why: "used" },
    ],
  );
  assert.ok(told.freedBytes > 0);
  assert.deepEqual((await host.images.list(namespace)).map(({ name }) => name).toSorted(), [used!, pinned!].toSorted());
  assert.equal((await inspection.usage(namespace)).reclaimableBytes, 0);
  held = { snapshots: [] };
  const digest = `${warehouse.registry.host}/app@${app.descriptor.digest}`;
  await host.images.pull({ namespace, image: digest, snapshotter: "overlayfs" });
  const dangling = await inspection.prune({ namespace, dangling: true });
  assert.deepEqual(
    dangling.removed.map(({ name }) => name),
    [digest],
  );
  // All of it is still the other name's.
  assert.equal(dangling.freedBytes, 0);
});
