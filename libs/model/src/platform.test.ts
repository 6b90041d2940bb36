import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import { MEDIA_TYPES, type Descriptor, type Platform } from "./oci.ts";
import { choosePlatform, formatPlatform, hostPlatform } from "./platform.ts";

function offer(os: string, architecture: string, variant?: string): Descriptor {
  const platform: Platform = { os, architecture, ...(variant === undefined ? {} : { variant }) };
  return { mediaType: MEDIA_TYPES.ociManifest, digest: digestOf(formatPlatform(platform)), size: 1, platform };
}

const arm = (variant?: string): Platform => ({ os: "linux", architecture: "arm", ...(variant ? { variant } : {}) });

test("choosePlatform takes the exact os and architecture", () => {
  const manifests = [offer("windows", "amd64"), offer("linux", "arm64", "v8"), offer("linux", "amd64")];
  assert.equal(choosePlatform(manifests, { os: "linux", architecture: "amd64" }), manifests[2]);
  assert.equal(choosePlatform(manifests, { os: "linux", architecture: "arm64" }), manifests[1]);
  assert.equal(choosePlatform(manifests, { os: "linux", architecture: "s390x" }), undefined);
});

test("choosePlatform falls back to the nearest lower variant on arm, never to a higher one", () => {
  const manifests = [offer("linux", "arm", "v5"), offer("linux", "arm", "v6"), offer("linux", "arm", "v7")];
  assert.equal(choosePlatform(manifests, arm("v7")), manifests[2]);
  assert.equal(choosePlatform(manifests.slice(0, 2), arm("v7")), manifests[1]);
  assert.equal(choosePlatform(manifests, arm()), manifests[2]);
  assert.equal(choosePlatform([manifests[2]!], arm("v6")), undefined);
});

test("choosePlatform takes the highest amd64 level up to the one asked for, and plain amd64 as the first", () => {
  const manifests = [offer("linux", "amd64"), offer("linux", "amd64", "v2"), offer("linux", "amd64", "v4")];
  const at = (variant: string): Platform => ({ os: "linux", architecture: "amd64", variant });
  assert.equal(choosePlatform(manifests, at("v3")), manifests[1]);
  assert.equal(choosePlatform(manifests, at("v4")), manifests[2]);
  assert.equal(choosePlatform(manifests, at("v1")), manifests[0]);
  assert.equal(choosePlatform(manifests, { os: "linux", architecture: "amd64" }), manifests[0]);
});

test("choosePlatform takes arm64/v8 for plain arm64 and for v9", () => {
  const manifests = [offer("linux", "arm64", "v8")];
  for (const variant of [undefined, "v8", "v9"]) {
    const wanted = { os: "linux", architecture: "arm64", ...(variant ? { variant } : {}) };
    assert.equal(choosePlatform(manifests, wanted), manifests[0]);
  }
});

test("choosePlatform never takes an entry without a platform, such as an attestation of unknown/unknown", () => {
  const { platform: _, ...bare } = offer("linux", "amd64");
  const manifests = [bare, offer("unknown", "unknown")];
  assert.equal(choosePlatform(manifests, { os: "linux", architecture: "amd64" }), undefined);
});

test("choosePlatform does not take an amd64 variant that this host may lack", () => {
  const manifests = [offer("linux", "amd64", "v3")];
  assert.equal(choosePlatform(manifests, { os: "linux", architecture: "amd64" }), undefined);
});

test("formatPlatform writes os/architecture[/variant]", () => {
  assert.equal(formatPlatform({ os: "linux", architecture: "arm", variant: "v7" }), "linux/arm/v7");
  assert.equal(formatPlatform({ os: "linux", architecture: "amd64", variant: "" }), "linux/amd64");
  assert.match(formatPlatform(hostPlatform), /^linux\//);
});
