import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { MEDIA_TYPES } from "@berth/model";
import type { SeenRequest } from "@berth/registry/testing";
import { startDockerRegistry } from "@berth/registry/testing";
import { failureOf } from "./testing/failure.ts";
import { startTestHost, type TestHost } from "./testing/host.ts";
import { buildImage, pushImage, pushIndex, type BuiltImage } from "./testing/image.ts";
import { sendBlob, serveImage } from "./testing/image-server.ts";
import { buildTar } from "./testing/tar.ts";

const base = buildTar([{ name: "base", data: "b".repeat(5000) }]);
const secret = buildTar([{ name: "secret", data: "s".repeat(5000) }]);

function gets(seen: readonly SeenRequest[]): string[] {
  return seen.filter(({ method }) => method === "GET").map(({ path }) => path);
}

async function snapshotsOf(host: TestHost, namespace: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of host.snapshotters["overlayfs"]!.namespace(namespace).walk()) keys.push(key);
  return keys;
}

test("pulling again asks only whether the tag still points there", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  await using server = await serveImage(image);
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const request = { namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" };
  const first = await host.images.pull(request);
  const before = server.seen.length;
  assert.deepEqual(await host.images.pull(request), first);
  assert.deepEqual(
    server.seen.slice(before).map(({ method, path }) => `${method} ${path}`),
    ["HEAD /v2/a/manifests/v1"],
  );
  const pinned = await host.images.pull({ ...request, image: `${server.host}/a@${image.descriptor.digest}` });
  assert.equal(pinned.chainId, first.chainId);
  assert.equal(server.seen.length, before + 1, "a digest that is here needs no registry");
});

test("pulling again follows a tag that moved", async () => {
  await using registry = await startDockerRegistry();
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const request = { namespace: "shop", image: `${registry.host}/a:v1`, snapshotter: "overlayfs" };
  await pushImage(registry, "a", "v1", buildImage({ layers: [{ tar: base }] }));
  const first = await host.images.pull(request);
  const next = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  await pushImage(registry, "a", "v1", next);
  const second = await host.images.pull(request);
  assert.equal(second.manifest, next.descriptor.digest);
  assert.notEqual(second.chainId, first.chainId);
  assert.equal(second.image.createdAtMs, first.image.createdAtMs);
});

test("a second namespace gets layers that are here after HEADs with its own credentials", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  await using server = await serveImage(image);
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const name = `${server.host}/a:v1`;
  await host.images.pull({ namespace: "one", image: name, snapshotter: "overlayfs" });
  assert.equal((await failureOf(host.images.get("two", name))).reason, "IMAGE_MISSING");
  assert.deepEqual(await snapshotsOf(host, "two"), []);
  const before = server.seen.length;
  const second = await host.images.pull({ namespace: "two", image: name, snapshotter: "overlayfs" });
  const asked = server.seen.slice(before);
  const config = second.configDigest;
  assert.deepEqual(gets(asked), ["/v2/a/manifests/v1", `/v2/a/blobs/${config}`], "the manifest is always fetched");
  for (const layer of image.layers) {
    assert.ok(asked.some(({ method, path }) => method === "HEAD" && path.endsWith(layer.digest)));
  }
  assert.equal((await snapshotsOf(host, "two")).length, 2);
});

test("where content is shared, a second namespace gets layers that are here for the manifest that names them", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  await using server = await serveImage(image);
  const hosts = [{ host: server.host, plainHttp: true }];
  await using host = await startTestHost({ hosts, content: { sharing: "shared" } });
  const name = `${server.host}/a:v1`;
  await host.images.pull({ namespace: "one", image: name, snapshotter: "overlayfs" });
  const before = server.seen.length;
  await host.images.pull({ namespace: "two", image: name, snapshotter: "overlayfs" });
  const layers = image.layers.map(({ digest }) => digest);
  const asked = server.seen.slice(before).filter(({ path }) => layers.some((digest) => path.endsWith(digest)));
  assert.deepEqual(asked, [], "nobody asks the registry for layers");
  assert.equal((await snapshotsOf(host, "two")).length, 2);
});

test("a namespace whose credentials do not reach a layer does not get the one that is here", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  const hidden = image.layers[1]!.digest;
  await using server = await serveImage(image, (seen, response) => {
    if (!seen.path.endsWith(hidden) || seen.headers.authorization !== undefined) return false;
    response.writeHead(404).end();
    return true;
  });
  const anonymous = { host: server.host, plainHttp: true };
  await using host = await startTestHost({ hosts: [anonymous] });
  await using _open = { [Symbol.asyncDispose]: async () => {} };
  // The first tenant may see it.
  server.mischief(undefined);
  const name = `${server.host}/a:v1`;
  await host.images.pull({ namespace: "one", image: name, snapshotter: "overlayfs" });
  server.mischief((seen, response) => {
    if (!seen.path.endsWith(hidden)) return false;
    response.writeHead(404).end();
    return true;
  });
  const error = await failureOf(host.images.pull({ namespace: "two", image: name, snapshotter: "overlayfs" }));
  assert.equal(error.reason, "BLOB_MISSING");
  assert.equal(await host.content.has("two", hidden), false);
  assert.ok(!(await snapshotsOf(host, "two")).includes(image.diffIds[1]!));
});

test("a config that claims another tenant's layers does not open them", async () => {
  await using registry = await startDockerRegistry();
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const victim = buildImage({ layers: [{ tar: secret }] });
  await pushImage(registry, "victim/app", "v1", victim);
  await host.images.pull({ namespace: "victim", image: `${registry.host}/victim/app:v1`, snapshotter: "overlayfs" });
  const forged = buildImage({ layers: [{ tar: base, diffId: victim.diffIds[0]! }] });
  await pushImage(registry, "thief/app", "v1", forged);
  const pull = host.images.pull({
    namespace: "thief",
    image: `${registry.host}/thief/app:v1`,
    snapshotter: "overlayfs",
  });
  assert.equal((await failureOf(pull)).reason, "LAYER_DIFF_ID_MISMATCH");
  assert.deepEqual(await snapshotsOf(host, "thief"), []);
});

test("concurrent pulls of one image share the work, and one that gives up does not end the others", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
  await using server = await serveImage(image, (seen, response, blob) => {
    if (blob === undefined || seen.method !== "GET") return false;
    reach();
    void gate.then(() => sendBlob(seen, response, blob));
    return true;
  });
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const request = { namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" };
  const abort = new AbortController();
  const gone = failureOf(host.images.pull({ ...request, signal: abort.signal }));
  const pulls = [1, 2, 3].map(() => host.images.pull(request));
  await reached;
  abort.abort();
  assert.equal((await gone).code, "CANCELLED");
  open();
  const [first, ...others] = await Promise.all(pulls);
  for (const other of others) assert.deepEqual(other, first);
  assert.equal(gets(server.seen).length, new Set(gets(server.seen)).size, "nothing was fetched twice");
});

test("concurrent pulls of images that share layers, by several namespaces, fetch and extract each once", async () => {
  await using registry = await startDockerRegistry();
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const tops = ["x", "y", "z"].map((name) => buildTar([{ name, data: name.repeat(3000) }]));
  for (const [i, top] of tops.entries()) {
    await pushImage(registry, "a", `v${i}`, buildImage({ layers: [{ tar: base }, { tar: secret }, { tar: top }] }));
  }
  const pulls = ["one", "two"].flatMap((namespace) =>
    tops.map((_, i) => host.images.pull({ namespace, image: `${registry.host}/a:v${i}`, snapshotter: "overlayfs" })),
  );
  const pulled = await Promise.all(pulls);
  assert.equal(new Set(pulled.map(({ chainId }) => chainId)).size, 3);
  let physical = 0;
  for await (const _ of host.snapshotters["overlayfs"]!.snapshotter.walk()) physical += 1;
  assert.equal(physical, 5, "two shared layers and three tops");
  assert.deepEqual(await host.leavings(), []);
});

test("collect removes what no image refers to, and only that", async () => {
  await using registry = await startDockerRegistry();
  const held: { namespace: string; snapshotter: string; chainId: string }[] = [];
  await using host = await startTestHost({
    hosts: [{ host: registry.host, plainHttp: true }],
    references: async () => ({ snapshots: held }),
  });
  const one = buildImage({ layers: [{ tar: base }] });
  const two = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  await pushIndex(registry, "a", "one", [
    one,
    buildImage({ layers: [{ tar: secret }], platform: { os: "linux", architecture: "s390x" } }),
  ]);
  await pushImage(registry, "a", "two", two);
  for (const tag of ["one", "two"]) {
    await host.images.pull({ namespace: "shop", image: `${registry.host}/a:${tag}`, snapshotter: "overlayfs" });
  }
  assert.deepEqual(await host.images.collect(), { blobs: 0, snapshots: 0, freedBytes: 0 });
  await host.images.remove("shop", `${registry.host}/a:two`);
  const top = two.layers[1]!.digest;
  const [, chainId] = await snapshotsOf(host, "shop");
  held.push({ namespace: "shop", snapshotter: "overlayfs", chainId: chainId! });
  const first = await host.images.collect();
  assert.deepEqual([first.blobs, first.snapshots], [3, 0], "manifest, config and layer; the snapshot is in use");
  assert.equal(await host.content.physical(top), undefined);
  held.length = 0;
  const second = await host.images.collect();
  assert.equal(second.snapshots, 1);
  assert.ok(second.freedBytes >= 4096);
  await host.images.unpacked("shop", `${registry.host}/a:one`, "overlayfs");
  await host.images.remove("shop", `${registry.host}/a:one`);
  await host.images.collect();
  assert.deepEqual(await snapshotsOf(host, "shop"), []);
  assert.deepEqual(await host.content.totals(), { blobs: 0, sizeBytes: 0 });
  assert.equal((await failureOf(host.images.remove("shop", `${registry.host}/a:one`))).reason, "IMAGE_MISSING");
});

test("collect leaves alone what a running pull has fetched", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: secret }] });
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  await using server = await serveImage(image, (seen, response, blob) => {
    if (blob === undefined || seen.method !== "GET" || !seen.path.endsWith(image.layers[1]!.digest)) return false;
    void gate.then(() => sendBlob(seen, response, blob));
    return true;
  });
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const pulling = host.images.pull({ namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" });
  while (!(await snapshotsOf(host, "shop")).includes(image.diffIds[0]!)) await delay(5);
  assert.deepEqual(await host.images.collect(), { blobs: 0, snapshots: 0, freedBytes: 0 });
  open();
  const pulled = await pulling;
  await host.look("shop", "overlayfs", pulled.chainId, (root) =>
    assert.deepEqual(readdirSync(root), ["base", "secret"]),
  );
});

test("list shows a namespace's own images", async () => {
  const image: BuiltImage = buildImage({
    layers: [{ tar: base, stored: { bytes: base, mediaType: MEDIA_TYPES.ociLayer } }],
  });
  await using server = await serveImage(image);
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const name = `${server.host}/a:v1`;
  await host.images.pull({ namespace: "shop", image: name, snapshotter: "native" });
  assert.deepEqual(
    (await host.images.list("shop")).map((record) => record.name),
    [name],
  );
  assert.deepEqual(await host.images.list("other"), []);
  assert.equal((await failureOf(host.images.unpacked("shop", name, "overlayfs"))).reason, "IMAGE_MISSING");
});
