/** Makes small images of given layers and pushes them to a registry. */
import { gzipSync } from "node:zlib";
import { digestOf, type Digest } from "@berth/base";
import { MEDIA_TYPES, type Descriptor, type Platform } from "@berth/model";
import type { DockerRegistry } from "@berth/registry/testing";

/** One layer's archive, and how it is stored. */
export interface LayerInput {
  readonly tar: Buffer;
  /** `gzip` by default. */
  readonly stored?: "gzip" | "plain" | { readonly bytes: Buffer; readonly mediaType: string };
  /** What the config claims; the truth by default. */
  readonly diffId?: Digest;
}

export interface ImageInput {
  readonly layers: readonly LayerInput[];
  readonly platform?: Platform;
  /** Docker's media types instead of OCI's. */
  readonly docker?: boolean;
  readonly env?: readonly string[];
}

/** An image as bytes, before it is anywhere. */
export interface BuiltImage {
  readonly manifest: Buffer;
  readonly manifestType: string;
  readonly descriptor: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly Digest[];
  /** Config and layers. */
  readonly blobs: readonly Buffer[];
}

const HOST: Platform = { os: "linux", architecture: process.arch === "arm64" ? "arm64" : "amd64" };

export function buildImage(input: ImageInput): BuiltImage {
  const stored = input.layers.map((layer) => store(layer, input.docker ?? false));
  const diffIds = input.layers.map(({ tar, diffId }) => diffId ?? digestOf(tar));
  const platform = input.platform ?? HOST;
  const config = json({ ...platform, config: { Env: input.env ?? [] }, rootfs: { type: "layers", diff_ids: diffIds } });
  const layers = stored.map(({ bytes, mediaType }) => describe(bytes, mediaType));
  const manifestType = input.docker ? MEDIA_TYPES.dockerManifest : MEDIA_TYPES.ociManifest;
  const configType = input.docker ? MEDIA_TYPES.dockerConfig : MEDIA_TYPES.ociConfig;
  const manifest = json({ schemaVersion: 2, mediaType: manifestType, config: describe(config, configType), layers });
  return {
    manifest,
    manifestType,
    descriptor: { ...describe(manifest, manifestType), platform },
    layers,
    diffIds,
    blobs: [config, ...stored.map(({ bytes }) => bytes)],
  };
}

export async function pushImage(
  registry: DockerRegistry,
  repository: string,
  tag: string,
  image: BuiltImage,
): Promise<void> {
  for (const blob of image.blobs) await registry.pushBlob(repository, blob);
  await registry.pushManifest(repository, tag, image.manifestType, image.manifest);
}

/** Pushes images of several platforms under one tag. */
export async function pushIndex(
  registry: DockerRegistry,
  repository: string,
  tag: string,
  images: readonly BuiltImage[],
): Promise<void> {
  for (const image of images)
    await pushImage(registry, repository, `part-${image.descriptor.digest.slice(7, 19)}`, image);
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: images.map((image) => image.descriptor),
  };
  await registry.pushManifest(repository, tag, MEDIA_TYPES.ociIndex, json(index));
}

function store({ tar, stored = "gzip" }: LayerInput, docker: boolean): { bytes: Buffer; mediaType: string } {
  if (typeof stored === "object") return stored;
  if (stored === "plain") return { bytes: tar, mediaType: docker ? MEDIA_TYPES.dockerLayer : MEDIA_TYPES.ociLayer };
  const mediaType = docker ? MEDIA_TYPES.dockerLayerGzip : MEDIA_TYPES.ociLayerGzip;
  return { bytes: gzipSync(tar, { level: 1 }), mediaType };
}

function describe(bytes: Buffer, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
