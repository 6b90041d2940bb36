import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf, ManualClock } from "@berth/base";
import { startDockerRegistry } from "@berth/registry/testing";
import { failureOf } from "../testing/failure.ts";
import { openGcLab } from "../testing/gc-lab.ts";
import { startTestHost } from "../testing/host.ts";
import { buildImage, pushImage } from "../testing/image.ts";
import { buildTar } from "../testing/tar.ts";
import { EXPIRE_LABEL, FLAT_LABEL } from "./leases.ts";

const HOUR_MS = 3_600_000;

test("Leases.create makes an id, keeps labels, and refuses what is there or wrong", async () => {
  await using lab = await openGcLab();
  const { leases } = lab.images;
  const made = await leases.create("shop", { labels: { owner: "ci" } });
  assert.match(made.id, /^[0-9a-f-]{36}$/);
  assert.deepEqual(await leases.get("shop", made.id), made);
  assert.equal(made.expiresAtMs, undefined);
  const expiring = await leases.create("shop", { id: "l1", expiresAtMs: Date.UTC(2040, 0, 1) });
  assert.equal(expiring.labels[EXPIRE_LABEL], "2040-01-01T00:00:00.000Z");
  assert.equal(expiring.expiresAtMs, Date.UTC(2040, 0, 1));
  assert.equal((await failureOf(leases.create("shop", { id: "l1" }))).reason, "LEASE_EXISTS");
  assert.equal((await leases.create("other", { id: "l1" })).namespace, "other", "ids are a namespace's own");
  for (const wrong of [
    { id: "" },
    { id: "a b" },
    { id: "x".repeat(80) },
    { labels: { [EXPIRE_LABEL]: "tomorrow" } },
    { labels: { [EXPIRE_LABEL]: "2040-13-45T00:00:00Z" } },
    { labels: { big: "x".repeat(5_000) } },
    { expiresAtMs: Number.NaN },
  ]) {
    const error = await failureOf(leases.create("shop", wrong));
    assert.equal(`${error.code} ${error.reason}`, "INVALID_ARGUMENT LEASE_INVALID", JSON.stringify(wrong));
  }
});

test("Leases.list takes containerd's filters", async () => {
  await using lab = await openGcLab();
  const { leases } = lab.images;
  await leases.create("shop", { id: "a", labels: { "io.example/kind": "pull" } });
  await leases.create("shop", { id: "b", labels: { kind: "build" } });
  await leases.create("other", { id: "c" });
  const ids = async (...filters: string[]): Promise<string[]> =>
    (await leases.list("shop", filters)).map(({ id }) => id);
  assert.deepEqual(await ids(), ["a", "b"]);
  assert.deepEqual(await ids("id==b"), ["b"]);
  assert.deepEqual(await ids('labels."io.example/kind"==pull', "id==b"), ["a", "b"]);
  assert.deepEqual(await ids("labels.kind"), ["b"]);
  assert.equal((await failureOf(leases.list("shop", ["id=="]))).reason, "FILTER_INVALID");
});

test("Leases keep resources of the four types, and say what is wrong with others", async () => {
  const clock = new ManualClock();
  await using lab = await openGcLab({ clock });
  const { leases } = lab.images;
  await leases.create("shop", { id: "l", expiresAtMs: clock.nowMs() + HOUR_MS });
  const digest = digestOf("x");
  const resources = [
    { type: "content", id: digest },
    { type: "images", id: "docker.io/library/app:1" },
    { type: "ingests", id: "layer-1" },
    { type: "snapshots/overlayfs", id: "web" },
  ];
  for (const resource of [...resources, resources[0]!]) await leases.addResource("shop", "l", resource);
  assert.deepEqual(await leases.listResources("shop", "l"), resources);
  await leases.deleteResource("shop", "l", resources[1]!);
  await leases.deleteResource("shop", "l", resources[1]!);
  assert.equal((await leases.listResources("shop", "l")).length, 3);
  const add = (type: string, id: string, lease = "l") => failureOf(leases.addResource("shop", lease, { type, id }));
  assert.equal((await add("content", "latest")).reason, "LEASE_RESOURCE_INVALID");
  assert.equal((await add("snapshots", "web")).reason, "LEASE_RESOURCE_INVALID");
  assert.equal((await add("images", "")).reason, "LEASE_RESOURCE_INVALID");
  assert.equal((await add("containers", "web")).code, "UNIMPLEMENTED");
  assert.equal((await add("content", digest, "none")).reason, "LEASE_MISSING");
  assert.equal((await failureOf(leases.listResources("shop", "none"))).reason, "LEASE_MISSING");
  clock.advance(HOUR_MS);
  assert.equal((await add("content", digest)).reason, "LEASE_EXPIRED");
});

test("Leases hold content, snapshots and what they refer to, until they are deleted; sync collects at once", async () => {
  await using lab = await openGcLab();
  const { leases } = lab.images;
  const image = await lab.image("shop", "docker.io/library/app:1", { layers: 2 });
  await lab.image("shop", "docker.io/library/flat:1");
  const loose = await lab.blob("shop", "loose");
  await leases.create("shop", { id: "l" });
  await leases.addResource("shop", "l", { type: "content", id: image.manifest });
  await leases.addResource("shop", "l", { type: "content", id: loose });
  await lab.images.remove("shop", image.name);
  await lab.images.remove("shop", "docker.io/library/flat:1");
  const report = await lab.images.gc.run();
  assert.equal(report.blobs, 3, "manifest, config and layer of the other image");
  assert.deepEqual(await lab.contents("shop"), [...image.all, loose].sort());
  assert.deepEqual((await lab.layers("shop")).sort(), [...image.chain].sort());
  await leases.delete("shop", "l", { sync: true });
  assert.deepEqual(await lab.contents("shop"), []);
  assert.deepEqual(await lab.layers("shop"), []);
  assert.equal(lab.images.gc.counters().collections["lease-delete"], 1);
  assert.equal((await failureOf(leases.delete("shop", "l"))).reason, "LEASE_MISSING");
});

test("a lease with gc.flat holds the resource alone, of a snapshot with its parents", async () => {
  await using lab = await openGcLab();
  const image = await lab.image("shop", "docker.io/library/app:1", { layers: 2 });
  const lease = { id: "flat", labels: { [FLAT_LABEL]: "true" } };
  await lab.images.leases.create("shop", lease);
  await lab.images.leases.addResource("shop", "flat", { type: "content", id: image.manifest });
  await lab.images.leases.addResource("shop", "flat", { type: "snapshots/overlayfs", id: image.chain[1]! });
  await lab.images.remove("shop", image.name);
  await lab.images.gc.run();
  assert.deepEqual(await lab.contents("shop"), [image.manifest]);
  assert.equal((await lab.layers("shop")).length, 2);
});

test("an expired lease goes with what it alone held, and with its ingests", async () => {
  const clock = new ManualClock(Date.now());
  await using lab = await openGcLab({ clock });
  const { leases, gc } = lab.images;
  await leases.create("shop", { id: "l1", expiresAtMs: clock.nowMs() + HOUR_MS });
  await leases.create("shop", { id: "l2" });
  const [one, both] = [await lab.blob("shop", "one"), await lab.blob("shop", "both")];
  for (const id of [one, both]) await leases.addResource("shop", "l1", { type: "content", id });
  await leases.addResource("shop", "l2", { type: "content", id: both });
  const begin = async (ref: string, lease?: string): Promise<void> => {
    await using writer = await lab.content.writer("shop", { ref, ...(lease === undefined ? {} : { lease }) });
    await writer.write(Buffer.from("some"));
  };
  await begin("of-l1", "l1");
  await begin("of-l2", "l2");
  await begin("of-nobody");
  await begin("added");
  await leases.addResource("shop", "l1", { type: "ingests", id: "added" });
  await gc.run();
  assert.equal((await lab.content.listStatuses("shop")).length, 4);
  clock.advance(4 * HOUR_MS);
  const dry = await gc.run({ dryRun: true });
  const why = new Map(dry.removed.map(({ kind, key, reason }) => [`${kind} ${key}`, reason]));
  assert.equal(why.get("lease l1"), 'lease "l1" expired 3 h ago');
  assert.equal(why.get(`content ${one}`), 'lease "l1" expired 3 h ago');
  assert.equal(why.has(`content ${both}`), false);
  assert.ok(why.has("ingest of-l1") && why.has("ingest added") && !why.has("ingest of-l2"));
  const report = await gc.run();
  assert.deepEqual([report.leases, report.blobs, report.ingests], [1, 1, 2]);
  assert.deepEqual(await lab.contents("shop"), [both]);
  const refs = (await lab.content.listStatuses("shop")).map(({ ref }) => ref);
  assert.deepEqual(refs.sort(), ["of-l2", "of-nobody"]);
  await leases.delete("shop", "l2");
  assert.deepEqual(
    (await lab.content.listStatuses("shop")).map(({ ref }) => ref),
    ["of-nobody"],
  );
});

test("pulls beside collections lose nothing, under leases and without", async () => {
  await using registry = await startDockerRegistry();
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const shared = { tar: buildTar([{ name: "shared", data: "s".repeat(5_000) }]) };
  const names: string[] = [];
  for (const own of ["a", "b", "c"]) {
    const layers = [shared, { tar: buildTar([{ name: own, data: own.repeat(5_000) }]) }];
    await pushImage(registry, own, "v1", buildImage({ layers }));
    names.push(`${registry.host}/${own}:v1`);
  }
  const done = new AbortController();
  let collections = 0;
  const collecting = (async () => {
    for (; !done.signal.aborted; collections += 1) await host.images.gc.run();
  })();
  const pulling = names.map(async (image, index) => {
    const namespace = index === 2 ? "toys" : "shop";
    for (let round = 0; round < 6; round += 1) {
      const { id } = await host.images.leases.create(namespace);
      const request = { namespace, image, snapshotter: "overlayfs", ...(round % 2 === 0 ? { lease: id } : {}) };
      const pulled = await host.images.pull(request);
      await host.images.remove(namespace, image);
      if (round % 2 === 0) {
        await host.images.gc.run();
        const { chainId, manifest } = pulled;
        assert.ok(await host.content.has(namespace, manifest), `round ${round}: the lease holds ${image}`);
        const layer = await host.snapshotters["overlayfs"]!.namespace(namespace).stat(chainId);
        assert.notEqual(layer.parent, "", "with the shared layer below");
        await host.images.pull(request);
        await host.images.remove(namespace, image);
      }
      await host.images.leases.delete(namespace, id);
    }
    await host.images.pull({ namespace, image, snapshotter: "overlayfs" });
  });
  const outcomes = await Promise.allSettled(pulling);
  done.abort();
  await collecting;
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  await host.images.gc.run();
  for (const [index, image] of names.entries()) {
    const namespace = index === 2 ? "toys" : "shop";
    assert.notEqual((await host.images.unpacked(namespace, image, "overlayfs")).chainId, "");
  }
  assert.equal((await host.content.totals()).blobs, 3 * 3 + 1);
  assert.ok(collections > 5, `${collections} collections`);
});

test("a pull under a lease adds what it makes and finds; without the name, the lease holds it", async () => {
  await using registry = await startDockerRegistry();
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const layers = ["a", "b"].map((name) => ({ tar: buildTar([{ name, data: name.repeat(2_000) }]) }));
  const image = buildImage({ layers });
  await pushImage(registry, "app", "v1", image);
  const request = { namespace: "shop", image: `${registry.host}/app:v1`, snapshotter: "overlayfs", lease: "l" };
  assert.equal((await failureOf(host.images.pull(request))).reason, "LEASE_MISSING");
  await host.images.leases.create("shop", { id: "l" });
  await host.images.pull(request);
  const resources = await host.images.leases.listResources("shop", "l");
  const held = new Set(resources.map(({ type, id }) => `${type} ${id}`));
  for (const { digest } of [image.descriptor, ...image.layers]) assert.ok(held.has(`content ${digest}`), digest);
  assert.equal(resources.filter(({ type }) => type === "snapshots/overlayfs").length, 2);
  await host.images.remove("shop", request.image);
  assert.equal((await host.images.collect()).blobs, 0);
  await host.images.leases.create("shop", { id: "second" });
  await host.images.pull({ ...request, lease: "second" });
  await host.images.leases.delete("shop", "l");
  await host.images.remove("shop", request.image);
  assert.equal((await host.images.collect()).blobs, 0, "what the second pull found is held by its lease");
  await host.images.leases.delete("shop", "second", { sync: true });
  assert.equal((await host.content.totals()).blobs, 0);
});
