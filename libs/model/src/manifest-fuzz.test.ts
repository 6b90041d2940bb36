/**
 * Seeded fuzz of the manifest and config parsers: whatever the bytes, a checked document or a StatusError that names what is
 * wrong, and never more than the limits allow. `npm run soak -- fuzz` runs it at full count.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf, isDigest, seededRandom, StatusError } from "@berth/base";
import { MANIFEST_LIMITS, parseImageConfig, parseManifest } from "./manifest.ts";
import { MEDIA_TYPES, type Descriptor } from "./oci.ts";

const ROUNDS = 3_000 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const SEED = 20_261_126;
const REASONS = new Set(["MANIFEST_INVALID", "MANIFEST_UNSUPPORTED", "IMAGE_CONFIG_INVALID"]);

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const descriptor: Json = {
  mediaType: MEDIA_TYPES.ociLayerGzip,
  digest: digestOf("x"),
  size: 12,
  annotations: { a: "b" },
  platform: { os: "linux", architecture: "arm64", variant: "v8" },
};
const DOCUMENTS: readonly Json[] = [
  { schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config: descriptor, layers: [descriptor, descriptor] },
  { schemaVersion: 2, mediaType: MEDIA_TYPES.dockerManifest, config: descriptor, layers: [] },
  { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [descriptor, descriptor] },
  {
    architecture: "amd64",
    os: "linux",
    config: { User: "0", Env: ["A=b"], Labels: { l: "v" }, ExposedPorts: { "80/tcp": {} }, Volumes: { "/v": {} } },
    rootfs: { type: "layers", diff_ids: [digestOf("x")] },
  },
];
const ODD: readonly Json[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  2 ** 53,
  "",
  "\0",
  "sha256:00",
  `sha256:${"G".repeat(64)}`,
  "../..",
  [],
  [[]],
  {},
  { __proto__: null, constructor: 1 },
  MEDIA_TYPES.ociIndex,
  "application/vnd.docker.distribution.manifest.v1+json",
  "x".repeat(10_000),
];

function mutated(value: Json, int: (below: number) => number): Json {
  if (int(12) === 0) return structuredClone(ODD[int(ODD.length)]!);
  if (Array.isArray(value)) {
    const items = value.map((item) => mutated(item, int));
    return int(20) === 0 ? Array.from({ length: int(1500) }, () => items[0] ?? null) : items;
  }
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).map(([key, item]): [string, Json] => [
    int(40) === 0 ? "__proto__" : key,
    mutated(item, int),
  ]);
  if (int(25) === 0) entries.push([["layers", "manifests", "config", "mediaType"][int(4)]!, ODD[int(ODD.length)]!]);
  return Object.fromEntries(int(15) === 0 ? entries.slice(1) : entries);
}

function checkDescriptor({ digest, size, mediaType }: Descriptor): void {
  assert.ok(isDigest(digest) && Number.isSafeInteger(size) && size >= 0 && typeof mediaType === "string");
}

test("parseManifest and parseImageConfig give what is checked or say what is wrong (seeded fuzz)", () => {
  const random = seededRandom(SEED);
  const int = (below: number): number => Math.floor(random() * below);
  let refused = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const document = mutated(DOCUMENTS[int(DOCUMENTS.length)]!, int);
    let bytes = Buffer.from(JSON.stringify(document));
    for (let damage = int(4) === 0 ? int(4) : 0; damage > 0; damage -= 1) bytes[int(bytes.length)] = int(256);
    if (int(15) === 0) bytes = bytes.subarray(0, int(bytes.length));
    const contentType = int(4) === 0 ? MEDIA_TYPES.ociIndex : undefined;
    try {
      const parsed = parseManifest(bytes, "registry.example/app:1", contentType);
      const { descriptors, max } =
        parsed.kind === "index"
          ? { descriptors: parsed.index.manifests, max: MANIFEST_LIMITS.indexEntries }
          : { descriptors: [parsed.manifest.config, ...parsed.manifest.layers], max: MANIFEST_LIMITS.layers + 1 };
      assert.ok(descriptors.length <= max);
      descriptors.forEach(checkDescriptor);
    } catch (error) {
      refused += 1;
      assert.ok(
        error instanceof StatusError && REASONS.has(error.reason),
        `seed ${SEED}, round ${round}: ${String(error)}`,
      );
      assert.ok(
        error.message.length < 20_000,
        `seed ${SEED}, round ${round}: an error of ${error.message.length} letters`,
      );
    }
    try {
      const config = parseImageConfig(bytes, "registry.example/app:1");
      assert.ok(config.rootfs.diff_ids.every(isDigest) && config.rootfs.diff_ids.length <= MANIFEST_LIMITS.layers);
    } catch (error) {
      assert.ok(
        error instanceof StatusError && REASONS.has(error.reason),
        `seed ${SEED}, round ${round}: ${String(error)}`,
      );
    }
  }
  assert.ok(refused > ROUNDS * 0.3 && refused < ROUNDS * 0.95, `${refused} of ${ROUNDS} were refused`);
});
