import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf, StatusError } from "@berth/base";
import * as fc from "fast-check";
import { isIndexType, isManifestType, MANIFEST_LIMITS, parseImageConfig, parseManifest } from "./manifest.ts";
import { MEDIA_TYPES } from "./oci.ts";

const digest = digestOf("x");
const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const descriptor = { mediaType: MEDIA_TYPES.ociLayerGzip, digest, size: 12 };
const manifest = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPES.ociManifest,
  config: { ...descriptor, mediaType: MEDIA_TYPES.ociConfig },
  layers: [descriptor],
};
const index = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPES.ociIndex,
  manifests: [
    {
      ...descriptor,
      mediaType: MEDIA_TYPES.ociManifest,
      platform: { os: "linux", architecture: "arm64", variant: "v8" },
    },
  ],
};
const config = { architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [digest] } };

function failure(run: () => unknown): StatusError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    return error;
  }
  throw new Error("did not fail");
}

function parseFailure(value: unknown, contentType?: string): StatusError {
  const bytes = value instanceof Uint8Array ? value : encode(value);
  return failure(() => parseManifest(bytes, "host/app:1", contentType));
}

test("parseManifest reads a manifest and leaves unknown fields out", () => {
  const document = parseManifest(encode({ ...manifest, extra: 1 }), "host/app:1");
  assert.deepEqual(document, { kind: "manifest", mediaType: MEDIA_TYPES.ociManifest, manifest });
});

test("parseManifest reads an index with platforms", () => {
  assert.deepEqual(parseManifest(encode(index), "host/app:1"), {
    kind: "index",
    mediaType: MEDIA_TYPES.ociIndex,
    index,
  });
});

test("parseManifest takes the type from Content-Type, or from the shape, where the document is silent", () => {
  const { mediaType: _, ...silent } = manifest;
  const docker = parseManifest(encode(silent), "s", `${MEDIA_TYPES.dockerManifest}; charset=utf-8`);
  assert.equal(docker.mediaType, MEDIA_TYPES.dockerManifest);
  assert.equal(parseManifest(encode(silent), "s", "application/json").mediaType, MEDIA_TYPES.ociManifest);
});

test("parseManifest refuses schema 1, other artifacts, ambiguity and a contradicting Content-Type", () => {
  const cases: [unknown, RegExp, string?][] = [
    [{ schemaVersion: 1, fsLayers: [] }, /schema 1/],
    [manifest, /schema 1|was served as/, "application/vnd.docker.distribution.manifest.v1+prettyjws"],
    [{ ...manifest, mediaType: "application/vnd.cncf.helm+json" }, /neither an image manifest nor an index/],
    [{ ...manifest, manifests: [] }, /read in two ways/],
    [{ ...index, mediaType: MEDIA_TYPES.ociManifest }, /does not look like one/],
    [manifest, /was served as/, MEDIA_TYPES.dockerManifest],
  ];
  for (const [value, message, contentType] of cases) {
    const error = parseFailure(value, contentType);
    assert.equal(error.code, "INVALID_ARGUMENT");
    assert.equal(error.reason, "MANIFEST_UNSUPPORTED");
    assert.match(error.message, message);
    assert.match(error.message, /host\/app:1/);
  }
});

test("parseManifest names the field that is wrong", () => {
  const cases: [unknown, string][] = [
    [{ ...manifest, schemaVersion: "2" }, "schemaVersion"],
    [{ ...manifest, layers: [descriptor, { ...descriptor, size: -1 }] }, "layers[1].size"],
    [{ ...manifest, layers: [{ ...descriptor, size: 1.5 }] }, "layers[0].size"],
    [{ ...manifest, layers: [{ ...descriptor, digest: "sha256:../../etc" }] }, "layers[0].digest"],
    [{ ...manifest, layers: [{ ...descriptor, annotations: { a: 1 } }] }, 'layers[0].annotations["a"]'],
    [{ ...manifest, layers: ["x"] }, "layers[0]"],
    [{ ...manifest, layers: {} }, "layers"],
    [{ ...manifest, config: null }, "config"],
    [{ ...index, manifests: [{ ...descriptor, platform: { os: "linux" } }] }, "manifests[0].platform.architecture"],
    [{ ...manifest, layers: Array.from({ length: MANIFEST_LIMITS.layers + 1 }, () => descriptor) }, "layers"],
  ];
  for (const [value, field] of cases) {
    const error = parseFailure(value);
    assert.equal(error.reason, "MANIFEST_INVALID");
    assert.equal(error.violations[0]?.field, field);
  }
});

test("parseManifest refuses what is no JSON object, or too large", () => {
  assert.match(parseFailure(new TextEncoder().encode("<!DOCTYPE html><html>")).message, /HTML page/);
  assert.match(parseFailure(new TextEncoder().encode("{")).message, /not valid JSON/);
  assert.match(parseFailure(new Uint8Array([0x7b, 0xff, 0x7d])).message, /not valid JSON/);
  assert.match(parseFailure([]).message, /not a JSON object/);
  assert.match(parseFailure(new Uint8Array(MANIFEST_LIMITS.manifestBytes + 1)).message, /more than/);
});

test("parseManifest throws nothing but INVALID_ARGUMENT, whatever the bytes", () => {
  const mutation = fc.record({
    key: fc.constantFrom("schemaVersion", "mediaType", "config", "layers", "manifests"),
    value: fc.jsonValue(),
  });
  fc.assert(
    fc.property(fc.constantFrom(manifest, index), fc.array(mutation, { maxLength: 3 }), (base, mutations) => {
      const value = { ...base, ...Object.fromEntries(mutations.map((m) => [m.key, m.value])) };
      try {
        const parsed = parseManifest(encode(value), "s");
        assert.equal(isIndexType(parsed.mediaType), parsed.kind === "index");
        assert.equal(isManifestType(parsed.mediaType), parsed.kind === "manifest");
      } catch (error) {
        assert.ok(error instanceof StatusError && error.code === "INVALID_ARGUMENT", String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test("parseImageConfig reads what is run by default, with null for empty", () => {
  const run = {
    User: "1000:1000",
    Env: ["A=b"],
    Cmd: null,
    Labels: { ["__proto__"]: "x" },
    ExposedPorts: { "80/tcp": {} },
  };
  const parsed = parseImageConfig(
    encode({ ...config, config: run, variant: "v2", created: "2024-01-01T00:00:00Z" }),
    "s",
  );
  assert.equal(parsed.variant, "v2");
  assert.deepEqual(parsed.config?.Env, ["A=b"]);
  assert.equal(parsed.config?.Cmd, undefined);
  assert.deepEqual(parsed.config?.ExposedPorts, { "80/tcp": {} });
  assert.deepEqual(parsed.rootfs.diff_ids, [digest]);
});

test("parseImageConfig names the field that is wrong", () => {
  const cases: [unknown, string][] = [
    [{ ...config, rootfs: undefined }, "rootfs"],
    [{ ...config, rootfs: { type: "other", diff_ids: [] } }, "rootfs.type"],
    [{ ...config, rootfs: { type: "layers", diff_ids: ["x"] } }, "rootfs.diff_ids[0]"],
    [{ ...config, architecture: 1 }, "architecture"],
    [{ ...config, config: { Env: [1] } }, "config.Env[0]"],
    [{ ...config, config: { Volumes: [] } }, "config.Volumes"],
  ];
  for (const [value, field] of cases) {
    const error = failure(() => parseImageConfig(encode(value), "s"));
    assert.equal(error.reason, "IMAGE_CONFIG_INVALID");
    assert.equal(error.violations[0]?.field, field);
  }
});
