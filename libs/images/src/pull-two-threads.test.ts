/** A layer by two threads: the same outcome as by one, for good layers and for every kind of bad one. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { digestOf } from "@berth/base";
import { MEDIA_TYPES } from "@berth/model";
import { failureOf } from "./testing/failure.ts";
import { sendBlob, serveImage, type Mischief } from "./testing/image-server.ts";
import { startTestHost } from "./testing/host.ts";
import { buildImage, type LayerInput } from "./testing/image.ts";
import { buildTar } from "./testing/tar.ts";

const data = randomBytes(1_500_000);
const tar = buildTar([
  { name: "d/", type: "5" },
  { name: "d/big", data },
  { name: "last", data: "z" },
]);

async function setUp(layer: LayerInput, mischief?: Mischief) {
  const image = buildImage({ layers: [layer] });
  const server = await serveImage(image, mischief);
  const hosts = [{ host: server.host, plainHttp: true }];
  const host = await startTestHost({ hosts, config: { twoThreadsBytes: 1 }, registry: { maxAttempts: 1 } });
  const request = { namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" };
  return {
    image,
    host,
    server,
    pull: (signal?: AbortSignal) => host.images.pull({ ...request, ...(signal === undefined ? {} : { signal }) }),
    async [Symbol.asyncDispose]() {
      await host[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Descriptors of this process that are pipes; threads have some of their own. */
function pipes(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("pipe:");
    } catch {
      return false;
    }
  }).length;
}

const GOOD: Record<string, LayerInput> = {
  gzip: { tar },
  "no compression": { tar, stored: "plain" },
  "many gzip members": {
    tar,
    stored: {
      bytes: Buffer.concat([gzipSync(tar.subarray(0, 700_000)), gzipSync(tar.subarray(700_000))]),
      mediaType: MEDIA_TYPES.ociLayerGzip,
    },
  },
};

for (const [what, layer] of Object.entries(GOOD)) {
  test(`pull by two threads: ${what}`, async () => {
    const before = pipes();
    {
      await using s = await setUp(layer);
      const { chainId } = await s.pull();
      await s.host.look("shop", "overlayfs", chainId, (root) => {
        assert.ok(readFileSync(join(root, "d/big")).equals(data));
        assert.equal(readFileSync(join(root, "last"), "utf8"), "z");
      });
    }
    assert.equal(pipes(), before, "no pipe is left open");
  });
}

const gzipped = gzipSync(tar);
const damaged = Buffer.from(gzipped);
damaged.fill(0x55, gzipped.length - 200_000, gzipped.length - 100_000);

const BAD: Record<string, { layer: LayerInput; reason: string; message: RegExp }> = {
  "another diff id": {
    layer: { tar, diffId: digestOf("x") },
    reason: "LAYER_DIFF_ID_MISMATCH",
    message: /config says/,
  },
  "no archive": { layer: { tar: randomBytes(1_000_000) }, reason: "LAYER_INVALID", message: /archive/ },
  "an archive that ends early": {
    layer: { tar: tar.subarray(0, 900_000) },
    reason: "LAYER_INVALID",
    message: /archive/,
  },
  "damaged gzip": {
    layer: { tar, stored: { bytes: damaged, mediaType: MEDIA_TYPES.ociLayerGzip } },
    reason: "LAYER_INVALID",
    message: /gzip data cannot be read/,
  },
};

for (const [what, { layer, reason, message }] of Object.entries(BAD)) {
  test(`pull by two threads refuses what one refuses: ${what}`, async () => {
    const before = pipes();
    {
      await using s = await setUp(layer);
      const error = await failureOf(s.pull());
      assert.equal(error.reason, reason);
      assert.match(error.message, message);
      assert.deepEqual(await s.host.leavings(), []);
      for await (const { key } of s.host.snapshotters["overlayfs"]!.snapshotter.walk()) assert.fail(key);
    }
    assert.equal(pipes(), before, "no pipe is left open");
  });
}

test("pull by two threads: wrong bytes are LAYER_DIGEST_MISMATCH, a stalled transfer can be cancelled, the next pull works", async () => {
  const layer = { tar };
  const last = buildImage({ layers: [layer] }).layers[0]!.digest;
  await using s = await setUp(layer, (seen, response, blob) => {
    if (blob === undefined || !seen.path.endsWith(last)) return false;
    const wrong = Buffer.from(blob);
    wrong[700_000]! ^= 1;
    sendBlob(seen, response, wrong);
    return true;
  });
  assert.equal((await failureOf(s.pull())).reason, "LAYER_DIGEST_MISMATCH");
  const { promise: stalled, resolve: stall } = Promise.withResolvers<void>();
  s.server.mischief((seen, response, blob) => {
    if (blob === undefined || !seen.path.endsWith(last)) return false;
    response.writeHead(200, { "content-length": String(blob.length) });
    response.write(blob.subarray(0, 600_000), () => stall());
    return true;
  });
  const abort = new AbortController();
  const cancelled = failureOf(s.pull(abort.signal));
  await stalled;
  abort.abort();
  assert.equal((await cancelled).code, "CANCELLED");
  assert.deepEqual(await s.host.leavings(), []);
  s.server.mischief(undefined);
  await s.pull();
});
