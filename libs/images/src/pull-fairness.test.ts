/** Pulls beside each other: who waits for whom, and that shared bytes come once. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { sendBlob, serveImages, type ImageServer } from "./testing/image-server.ts";
import { startTestHost } from "./testing/host.ts";
import { buildImage, type BuiltImage } from "./testing/image.ts";
import { buildTar } from "./testing/tar.ts";
import { until } from "./testing/until.ts";

const SLOTS = { total: 4, perHost: 4, largePerPull: 2, smallBytes: 100_000 };

function imageOf(layers: number, bytes: number): BuiltImage {
  return buildImage({
    layers: Array.from({ length: layers }, (_, i) => ({
      tar: buildTar([{ name: `f${i}-${bytes}`, data: randomBytes(bytes) }]),
    })),
  });
}

/** How often each blob's bytes were asked for. */
function gets(server: ImageServer): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { method, path } of server.seen) {
    const digest = /\/blobs\/(.+)$/.exec(path)?.[1];
    if (method === "GET" && digest !== undefined) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  }
  return counts;
}

test("a small pull is done while the layers of a huge one fill the slots for large ones", async () => {
  const [huge, other, small] = [imageOf(6, 400_000), imageOf(3, 350_000), imageOf(4, 2_000)];
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const held: string[] = [];
  const large = new Set([...huge.layers, ...other.layers].map(({ digest }) => digest as string));
  await using server = await serveImages({ huge, other, small }, (seen, response, blob) => {
    const digest = seen.path.split("/").at(-1)!;
    if (blob === undefined || !large.has(digest) || seen.method !== "GET") return false;
    held.push(digest);
    void gate.then(() => sendBlob(seen, response, blob));
    return true;
  });
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }], config: { slots: SLOTS } });
  const pull = (repository: string) =>
    host.images.pull({ namespace: "shop", image: `${server.host}/${repository}:v1`, snapshotter: "overlayfs" });
  const slow = Promise.all([pull("huge"), pull("other")]);
  slow.catch(() => {});
  await pull("small");
  await until(() => assert.equal(held.length, 3, "a slot is left for small layers, the others are used"));
  for (const { layers } of [huge, other]) {
    const own = held.filter((digest) => layers.some((layer) => layer.digest === digest));
    assert.ok(own.length === 1 || own.length === 2, `of one pull, ${own.length} large layers run`);
  }
  open();
  await slow;
  assert.deepEqual([...new Set(gets(server).values())], [1]);
});

test("ten images that share a base, pulled at once, fetch and extract each byte once", async () => {
  const base = Array.from({ length: 4 }, (_, i) => ({
    tar: buildTar([{ name: `base${i}`, data: randomBytes(60_000) }]),
  }));
  const images = Object.fromEntries(
    Array.from({ length: 10 }, (_, i) => {
      const top = { tar: buildTar([{ name: `top${i}`, data: randomBytes(20_000) }]) };
      return [`app${i}`, buildImage({ layers: [...base, top] })];
    }),
  );
  await using server = await serveImages(images);
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const pulled = await Promise.all(
    Object.keys(images).map((repository) =>
      host.images.pull({ namespace: "shop", image: `${server.host}/${repository}:v1`, snapshotter: "overlayfs" }),
    ),
  );
  assert.equal(new Set(pulled.map(({ chainId }) => chainId)).size, 10);
  const counts = gets(server);
  assert.equal(counts.size, 4 + 10 + 10, "base, tops and configs");
  assert.deepEqual([...new Set(counts.values())], [1], "each was asked for once");
  let snapshots = 0;
  for await (const { kind } of host.snapshotters["overlayfs"]!.snapshotter.walk()) {
    assert.equal(kind, "committed");
    snapshots += 1;
  }
  assert.equal(snapshots, 14);
});
