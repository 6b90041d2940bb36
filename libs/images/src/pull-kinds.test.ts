/** What a reference may lead to: artifacts, indexes within indexes; and the question of a verifier. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf, StatusError } from "@berth/base";
import { MEDIA_TYPES, type Descriptor } from "@berth/model";

import { startDockerRegistry } from "@berth/registry/testing";
import type { VerificationCandidate } from "./pull/verification.ts";
import { failureOf } from "./testing/failure.ts";
import { startTestHost, type TestHost } from "./testing/host.ts";
import { buildImage, pushImage, type BuiltImage } from "./testing/image.ts";
import { serveImage } from "./testing/image-server.ts";
import { buildTar } from "./testing/tar.ts";
import { until } from "./testing/until.ts";

const tar = buildTar([{ name: "a", data: "a" }]);

function describe(bytes: Buffer, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

/** A manifest of anything. */
function artifact(
  config: { bytes: string; mediaType: string },
  layer: { bytes: string; mediaType: string },
): BuiltImage {
  const blobs = [Buffer.from(config.bytes), Buffer.from(layer.bytes)];
  const layers = [describe(blobs[1]!, layer.mediaType)];
  const value = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: describe(blobs[0]!, config.mediaType),
    layers,
  };
  const manifest = Buffer.from(JSON.stringify(value));
  const descriptor = describe(manifest, MEDIA_TYPES.ociManifest);
  return { manifest, manifestType: MEDIA_TYPES.ociManifest, descriptor, layers, diffIds: [], blobs };
}

const ARTIFACTS = {
  "a chart": artifact(
    { bytes: `{"name":"web","version":"1.0.0"}`, mediaType: "application/vnd.cncf.helm.config.v1+json" },
    { bytes: "chart", mediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip" },
  ),
  "something with an empty config": artifact(
    { bytes: "{}", mediaType: "application/vnd.oci.empty.v1+json" },
    { bytes: "model", mediaType: "application/x-model" },
  ),
  "a signature in the form of an image": artifact(
    { bytes: `{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}`, mediaType: MEDIA_TYPES.ociConfig },
    { bytes: "{}", mediaType: "application/vnd.dev.cosign.simplesigning.v1+json" },
  ),
};

for (const [what, image] of Object.entries(ARTIFACTS)) {
  test(`pull stores ${what}, and unpacked refuses it`, async () => {
    await using server = await serveImage(image);
    await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
    const name = `${server.host}/team/thing:v1`;
    const pulled = await host.images.pull({ namespace: "shop", image: name, snapshotter: "overlayfs" });
    assert.ok(pulled.artifactType);
    assert.equal(pulled.chainId, "");
    for (const { digest } of image.layers) assert.ok(await host.content.has("shop", digest));
    const error = await failureOf(host.images.unpacked("shop", name, "overlayfs"));
    assert.equal(error.code, "FAILED_PRECONDITION");
    assert.equal(error.reason, "IMAGE_IS_ARTIFACT");
    assert.match(error.message, /is an artifact \(application\/.*\) and no container image/);
    for await (const { key } of host.snapshotters["overlayfs"]!.snapshotter.walk()) assert.fail(key);
  });
}

test("pull with unpack: false fetches only; a later pull unpacks without fetching", async () => {
  const image = buildImage({ layers: [{ tar }] });
  await using server = await serveImage(image);
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  const request = { namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" };
  await host.images.pull({ ...request, unpack: false });
  assert.equal((await failureOf(host.images.unpacked("shop", request.image, "overlayfs"))).reason, "IMAGE_MISSING");
  const before = server.seen.length;
  await host.images.pull(request);
  assert.deepEqual(
    server.seen.slice(before).map(({ method }) => method),
    ["HEAD"],
  );
  await host.images.unpacked("shop", request.image, "overlayfs");
});

test("pull finds its platform in indexes within indexes, and bounds the search", async () => {
  await using registry = await startDockerRegistry();
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const pull = (tag: string) =>
    host.images.pull({ namespace: "shop", image: `${registry.host}/multi:${tag}`, snapshotter: "overlayfs" });
  const own = buildImage({ layers: [{ tar }] });
  const other = buildImage({ layers: [{ tar }], platform: { os: "linux", architecture: "s390x" } });
  for (const image of [own, other]) await pushImage(registry, "multi", `part-${image.diffIds[0]!.slice(8, 14)}`, image);
  const push = async (tag: string, manifests: readonly Descriptor[]): Promise<Descriptor> => {
    const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests };
    const bytes = Buffer.from(JSON.stringify(index));
    await registry.pushManifest("multi", tag, MEDIA_TYPES.ociIndex, bytes);
    return describe(bytes, MEDIA_TYPES.ociIndex);
  };
  const without = await push("without", [other.descriptor]);
  const within = await push("within", [own.descriptor]);
  await push("nested", [without, within, without]);
  assert.equal((await pull("nested")).manifest, own.descriptor.digest);
  const error = await failureOf(pull("without"));
  assert.equal(error.reason, "PLATFORM_MISSING");
  assert.match(error.message, /it offers linux\/s390x/);
  let deep = within;
  for (let level = 0; level < 5; level += 1) deep = await push(`deep${level}`, [deep]);
  assert.equal((await pull("deep1")).manifest, own.descriptor.digest);
  assert.match((await failureOf(pull("deep4"))).message, /nested more than 4 deep/);
  const many = await Promise.all(
    Array.from({ length: 40 }, (_, i) => push(`many${i}`, [{ ...other.descriptor, annotations: { i: `${i}` } }])),
  );
  await push("many", many);
  assert.match((await failureOf(pull("many"))).message, /lead to more than 32 documents/);
});

async function snapshotsOf(host: TestHost): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of host.snapshotters["overlayfs"]!.snapshotter.walk({ kind: "committed" })) keys.push(key);
  return keys;
}

test("pull asks the verifier before anything is unpacked, fetches meanwhile, and fails as it says", async () => {
  const image = buildImage({ layers: [{ tar }, { tar: buildTar([{ name: "b", data: "b" }]) }] });
  await using server = await serveImage(image);
  const asked: VerificationCandidate[] = [];
  let answer = Promise.withResolvers<void>();
  await using host = await startTestHost({
    hosts: [{ host: server.host, plainHttp: true }],
    verifier: {
      async check(candidate) {
        asked.push(candidate);
        await answer.promise;
      },
      allows: async () => true,
      verifiedBy: () => [],
      sweep: async () => {},
    },
  });
  const request = { namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" };
  const refused = failureOf(host.images.pull(request));
  await until(async () => {
    for (const { digest } of image.layers) assert.ok(await host.content.has("shop", digest), "fetched meanwhile");
  });
  assert.deepEqual(await snapshotsOf(host), []);
  answer.reject(new StatusError("PERMISSION_DENIED", "not signed", { reason: "IMAGE_REFUSED" }));
  assert.equal((await refused).reason, "IMAGE_REFUSED");
  assert.deepEqual(await snapshotsOf(host), []);
  assert.equal((await failureOf(host.images.get("shop", request.image))).reason, "IMAGE_MISSING");
  assert.deepEqual(await host.leavings(), []);
  answer = Promise.withResolvers<void>();
  answer.resolve();
  await host.images.pull(request);
  assert.equal((await snapshotsOf(host)).length, 2);
  await host.images.pull(request);
  assert.equal(asked.length, 3, "also for what is here already");
  const [first] = asked;
  assert.equal(first!.image, request.image);
  assert.equal(first!.target.descriptor.digest, image.descriptor.digest);
  assert.ok(Buffer.from(first!.manifest.bytes).equals(image.manifest));
});

test("pull takes layers through the stream processors that are configured, and refuses them without", async () => {
  const mediaType = "application/vnd.oci.image.layer.v1.tar+base64";
  const image = buildImage({ layers: [{ tar, stored: { bytes: Buffer.from(tar.toString("base64")), mediaType } }] });
  await using server = await serveImage(image);
  const hosts = [{ host: server.host, plainHttp: true }];
  const request = { namespace: "shop", image: `${server.host}/a:v1`, snapshotter: "overlayfs" };
  await using plain = await startTestHost({ hosts });
  assert.equal((await failureOf(plain.images.pull(request))).reason, "LAYER_UNSUPPORTED");
  const processor = { id: "base64", accepts: [mediaType], returns: MEDIA_TYPES.ociLayer, program: "/usr/bin/base64" };
  const config = { decompress: { processors: [{ ...processor, args: ["-d"] }] } };
  await using host = await startTestHost({ hosts, config });
  const { chainId } = await host.images.pull(request);
  await host.look("shop", "overlayfs", chainId, (root) => assert.equal(readFileSync(join(root, "a"), "utf8"), "a"));
});
