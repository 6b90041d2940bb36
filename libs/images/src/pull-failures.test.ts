import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import { mount, unmount } from "@berth/linux";
import { MEDIA_TYPES } from "@berth/model";
import { failureOf } from "./testing/failure.ts";
import { serveImage, sendBlob, type ImageServer, type Mischief } from "./testing/image-server.ts";
import { startTestHost, type TestHost } from "./testing/host.ts";
import { buildImage, type BuiltImage, type ImageInput } from "./testing/image.ts";
import { buildTar } from "./testing/tar.ts";

const small = buildTar([{ name: "a", data: "a" }]);
const large = buildTar([
  { name: "first", data: "first" },
  { name: "big", data: randomBytes(2_000_000) },
  { name: "last", data: "last" },
]);

interface Setup extends AsyncDisposable {
  readonly image: BuiltImage;
  readonly server: ImageServer;
  readonly host: TestHost;
  readonly name: string;
  pull(signal?: AbortSignal): ReturnType<TestHost["images"]["pull"]>;
}

async function setUp(input: ImageInput, mischief?: Mischief, root?: string): Promise<Setup> {
  const image = buildImage(input);
  const server = await serveImage(image, mischief);
  const hosts = [{ host: server.host, plainHttp: true }];
  const host = await startTestHost({ hosts, ...(root === undefined ? {} : { root }), registry: { maxAttempts: 2 } });
  const name = `${server.host}/team/app:v1`;
  return {
    image,
    server,
    host,
    name,
    pull: (signal) =>
      host.images.pull({ namespace: "shop", image: name, snapshotter: "overlayfs", ...(signal ? { signal } : {}) }),
    async [Symbol.asyncDispose]() {
      await host[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Nothing of a failed pull may be visible, and no layer half-made. */
async function assertNothingLeft({ host, name, image }: Setup): Promise<void> {
  assert.deepEqual(await host.leavings(), []);
  assert.equal((await failureOf(host.images.get("shop", name))).reason, "IMAGE_MISSING");
  for await (const snapshot of host.snapshotters["overlayfs"]!.snapshotter.walk({ kind: "active" })) {
    assert.fail(`snapshot ${snapshot.key} is left`);
  }
  const last = image.layers.at(-1)!;
  assert.equal(await host.content.has("shop", last.digest), false);
}

/** Changes what is sent of the last layer. */
function lastLayer(input: ImageInput, change: (blob: Buffer) => Buffer): Mischief {
  const target = buildImage(input).layers.at(-1)!.digest;
  return (seen, response, blob) => {
    if (blob === undefined || !seen.path.endsWith(target) || seen.method !== "GET") return false;
    sendBlob(seen, response, change(blob));
    return true;
  };
}

for (const layers of [[{ tar: large }], [{ tar: small }, { tar: large }]]) {
  test(`pull of wrong bytes in layer ${layers.length} is LAYER_DIGEST_MISMATCH, keeps nothing, and works next time`, async () => {
    const flip = (blob: Buffer): Buffer => {
      const wrong = Buffer.from(blob);
      wrong[1_000_000]! ^= 1;
      return wrong;
    };
    await using s = await setUp({ layers }, lastLayer({ layers }, flip));
    const error = await failureOf(s.pull());
    assert.equal(error.code, "DATA_LOSS");
    assert.equal(error.reason, "LAYER_DIGEST_MISMATCH");
    const last = s.image.layers.at(-1)!.digest;
    assert.match(error.message, new RegExp(`image ${s.name}: layer ${last} of registry ${s.server.host}`));
    await assertNothingLeft(s);
    const ingests = await s.host.content.listStatuses("shop");
    assert.ok(!ingests.some(({ expected }) => expected === last), "its bytes can never become right");
    s.server.mischief(undefined);
    await s.pull();
  });
}

/** Breaks off every transfer of a blob in its middle. */
function breaking(digest: string): Mischief {
  return ({ method, path }, response, blob) => {
    if (blob === undefined || method !== "GET" || !path.includes(digest)) return false;
    response.writeHead(200, { "content-length": String(blob.length) });
    response.write(blob.subarray(0, blob.length >> 1), () => response.destroy());
    return true;
  };
}

function fetched(server: ImageServer, digest: string): number {
  return server.seen.filter(({ method, path }) => method === "GET" && path.includes(digest)).length;
}

test("pull whose mirror dies amid a config gets it from the registry", async () => {
  const image = buildImage({ layers: [{ tar: small }] });
  const config = digestOf(image.blobs[0]!);
  await using mirror = await serveImage(image, breaking(config));
  await using origin = await serveImage(image);
  await using host = await startTestHost({
    hosts: [{ host: origin.host, plainHttp: true }],
    routes: () => ({ registry: origin.host, endpoints: [{ url: `http://${mirror.host}` }], source: "a test" }),
  });
  const pulled = await host.images.pull({ namespace: "shop", image: `${origin.host}/a:v1`, snapshotter: "overlayfs" });
  assert.equal(pulled.configDigest, config);
  assert.deepEqual([fetched(mirror, config) > 0, fetched(origin, config)], [true, 1]);
});

test("pull gives up on a config that always breaks off, and works next time", async () => {
  const config = digestOf(buildImage({ layers: [{ tar: small }] }).blobs[0]!);
  await using s = await setUp({ layers: [{ tar: small }] }, breaking(config));
  const error = await failureOf(s.pull());
  assert.deepEqual([error.code, error.reason], ["UNAVAILABLE", "TRANSFER_BROKEN"]);
  assert.equal(fetched(s.server, config), 4);
  await assertNothingLeft(s);
  s.server.mischief(undefined);
  await s.pull();
});

test("pull of too many bytes stops at once", async () => {
  const input = { layers: [{ tar: large }] };
  await using s = await setUp(
    input,
    lastLayer(input, (blob) => Buffer.concat([blob, blob])),
  );
  assert.equal((await failureOf(s.pull())).reason, "LAYER_DIGEST_MISMATCH");
  await assertNothingLeft(s);
});

test("pull resumes a transfer that breaks off, by range, within one pull", async () => {
  const input = { layers: [{ tar: large }] };
  const ranges: (string | undefined)[] = [];
  await using s = await setUp(input, (seen, response, blob) => {
    if (blob === undefined || blob.length < 1_000_000 || seen.method !== "GET") return false;
    ranges.push(seen.headers.range);
    const from = Number(/\d+/.exec(seen.headers.range ?? "0")![0]);
    response.writeHead(from > 0 ? 206 : 200, {
      "content-length": String(blob.length - from),
      ...(from > 0 ? { "content-range": `bytes ${from}-${blob.length - 1}/${blob.length}` } : {}),
    });
    if (blob.length - from < 800_000) response.end(blob.subarray(from));
    else response.write(blob.subarray(from, from + 700_000), () => response.destroy());
    return true;
  });
  await s.pull();
  assert.deepEqual(ranges.slice(0, 2), [undefined, "bytes=700000-"]);
});

test("pull starts over, without harm, when the server ignores ranges", async () => {
  let cut = true;
  await using s = await setUp({ layers: [{ tar: large }] }, (seen, response, blob) => {
    if (blob === undefined || blob.length < 1_000_000 || seen.method !== "GET") return false;
    response.writeHead(200, { "content-length": String(blob.length) });
    if (cut) response.write(blob.subarray(0, 700_000), () => response.destroy());
    else response.end(blob);
    cut = false;
    return true;
  });
  await s.pull();
});

test("pull of a layer that stays truncated is LAYER_TRUNCATED; the next pull resumes what was kept", async () => {
  const cut: Mischief = (seen, response, blob) => {
    if (blob === undefined || blob.length < 1_000_000 || seen.method !== "GET") return false;
    if (seen.headers.range !== undefined) response.destroy();
    else {
      response.writeHead(200, { "content-length": String(blob.length) });
      response.write(blob.subarray(0, 1_500_000), () => response.destroy());
    }
    return true;
  };
  await using s = await setUp({ layers: [{ tar: large }] }, cut);
  const error = await failureOf(s.pull());
  assert.equal(error.code, "UNAVAILABLE");
  assert.equal(error.reason, "LAYER_TRUNCATED");
  assert.match(error.message, /transfer stopped at 1500000 of \d+ bytes .*pull again to resume/);
  await assertNothingLeft(s);
  const [kept] = await s.host.content.listStatuses("shop");
  assert.equal(kept?.offsetBytes, 1_500_000);
  s.server.mischief(undefined);
  const before = s.server.seen.length;
  await s.pull();
  const ranged = s.server.seen.slice(before).filter((seen) => seen.headers.range !== undefined);
  assert.deepEqual(
    ranged.map((seen) => seen.headers.range),
    ["bytes=1500000-"],
  );
});

test("pull of an archive that is none, or damaged, is LAYER_INVALID and keeps no layer", async () => {
  const notTar = Buffer.alloc(4096, 7);
  for (const tar of [notTar, large.subarray(0, 3000)]) {
    await using s = await setUp({ layers: [{ tar }] });
    const error = await failureOf(s.pull());
    assert.equal(error.reason, "LAYER_INVALID");
    assert.match(error.message, /layer sha256:.*archive/);
    assert.deepEqual(await s.host.leavings(), []);
  }
});

test("pull of a broken gzip is LAYER_INVALID", async () => {
  const bytes = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), randomBytes(5000)]);
  await using s = await setUp({ layers: [{ tar: small, stored: { bytes, mediaType: MEDIA_TYPES.ociLayerGzip } }] });
  const error = await failureOf(s.pull());
  assert.equal(error.reason, "LAYER_INVALID");
  assert.match(error.message, /its gzip data cannot be read/);
});

test("pull refuses foreign and unknown layers, and images that are none", async () => {
  const types = ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/x-strange"];
  for (const mediaType of types) {
    await using s = await setUp({ layers: [{ tar: small, stored: { bytes: small, mediaType } }] });
    const error = await failureOf(s.pull());
    assert.equal(error.code, "UNIMPLEMENTED");
    assert.equal(error.reason, "LAYER_UNSUPPORTED");
    assert.ok(!s.server.seen.some((seen) => seen.path.endsWith(s.image.layers[0]!.digest)));
  }
});

test("a cancelled pull ends, leaves no mount or folder, and the next one works", async () => {
  for (const layers of [[{ tar: large }], [{ tar: small }, { tar: large }]]) {
    const abort = new AbortController();
    let stalled: () => void = () => {};
    const stalling = new Promise<void>((resolve) => (stalled = resolve));
    await using s = await setUp({ layers }, (seen, response, blob) => {
      if (blob === undefined || blob.length < 1_000_000 || seen.method !== "GET") return false;
      response.writeHead(200, { "content-length": String(blob.length) });
      response.write(blob.subarray(0, 900_000), stalled);
      return true;
    });
    const pulling = failureOf(s.pull(abort.signal));
    await stalling;
    abort.abort();
    assert.equal((await pulling).code, "CANCELLED");
    await assertNothingLeft(s);
    s.server.mischief(undefined);
    await s.pull();
  }
});

test("disposing the service cancels its pulls", async () => {
  let stalled: () => void = () => {};
  const stalling = new Promise<void>((resolve) => (stalled = resolve));
  await using s = await setUp({ layers: [{ tar: large }] }, (seen, response, blob) => {
    if (blob === undefined || blob.length < 1_000_000) return false;
    response.writeHead(200, { "content-length": String(blob.length) });
    response.write(blob.subarray(0, 900_000), stalled);
    return seen.method === "GET";
  });
  const pulling = failureOf(s.pull());
  await stalling;
  await s.host.images[Symbol.asyncDispose]();
  assert.equal((await pulling).code, "CANCELLED");
  assert.deepEqual(await s.host.leavings(), []);
});

test("pull onto a full disk is DISK_FULL, gives the space back, and the next pull works", async () => {
  const root = await mkdtemp(join(tmpdir(), "berth-full-"));
  mount({ type: "tmpfs", source: "tmpfs", target: root, options: ["size=24m"] });
  try {
    const filling = [
      { tar: buildTar([{ name: "one", data: randomBytes(3_000_000) }]) },
      { tar: buildTar([{ name: "two", data: Buffer.alloc(30_000_000, "x") }]) },
    ];
    await using s = await setUp({ layers: filling }, undefined, root);
    const error = await failureOf(s.pull());
    assert.equal(error.code, "RESOURCE_EXHAUSTED");
    assert.equal(error.reason, "DISK_FULL");
    assert.match(error.message, /layer sha256:.*disk full while writing .* on the file system of .*berth-full-/);
    assert.deepEqual(await s.host.leavings(), []);
    assert.deepEqual(await s.host.content.listStatuses("shop"), []);
    for (const layer of s.image.layers) assert.equal(await s.host.content.physical(layer.digest), undefined);
    for await (const snapshot of s.host.snapshotters["overlayfs"]!.snapshotter.walk()) assert.fail(snapshot.key);
    const fitting = buildImage({ layers: [{ tar: large }] });
    await using other = await serveImage(fitting);
    await using again = await startAgain(s, other.host);
    await again.images.pull({ namespace: "shop", image: `${other.host}/team/app:v1`, snapshotter: "overlayfs" });
  } finally {
    unmount(root);
    await rm(root, { recursive: true });
  }
});

async function startAgain(s: Setup, host: string): Promise<TestHost> {
  await s.host.stop();
  return await startTestHost({ hosts: [{ host, plainHttp: true }], root: s.host.root });
}

test("pull of a missing image names it", async () => {
  await using s = await setUp({ layers: [{ tar: small }] }, (_, response) => {
    response.writeHead(404).end();
    return true;
  });
  const error = await failureOf(s.pull());
  assert.equal(error.code, "NOT_FOUND");
  assert.equal(error.reason, "IMAGE_MISSING");
  assert.match(error.message, new RegExp(s.name));
  const bad = s.host.images.pull({ namespace: "shop", image: "UPPER/case", snapshotter: "overlayfs" });
  assert.equal((await failureOf(bad)).reason, "IMAGE_REFERENCE_INVALID");
  const odd = s.host.images.pull({ namespace: "shop", image: s.name, snapshotter: "odd" });
  assert.match((await failureOf(odd)).message, /snapshotter "odd" is not usable here; there is overlayfs, native/);
});

test("the start after a crash removes mounts and half-extracted layers", async () => {
  await using s = await setUp({ layers: [{ tar: small }] });
  const scratch = join(s.host.root, "scratch");
  const left = await mkdtemp(join(scratch, "layer-"));
  mount({ type: "tmpfs", source: "tmpfs", target: left, options: [] });
  const all = s.host.snapshotters["overlayfs"]!;
  await all.namespace("shop").prepare("extract-x", "", { labels: { "berth.dev/extract": "true" } });
  await using again = await startAgain(s, s.server.host);
  assert.deepEqual(await readdir(scratch), []);
  for await (const snapshot of again.snapshotters["overlayfs"]!.snapshotter.walk()) assert.fail(snapshot.key);
});
