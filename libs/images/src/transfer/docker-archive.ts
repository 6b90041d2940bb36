/**
 * What `docker save` writes, as an import sees it: images by their tags, each a config and layers by paths in the archive.
 *
 * It has no manifests: they are made here, of the config's bytes as they are and of the layers as they are stored, the same
 * for the same archive. The file `repositories` and the `json` and `VERSION` files of old are ignored.
 */
import { digestOf, type Digest } from "@berth/base";
import { MANIFEST_LIMITS, MEDIA_TYPES, parseImageConfig, type Descriptor, type OciManifest } from "@berth/model";
import type { Compression } from "../pull/decompress.ts";
import { objectOf, parseJson } from "../verify/material.ts";
import { archiveInvalid, type ArchiveFiles } from "./archive.ts";
import type { ArchiveImage } from "./oci-archive.ts";
import type { FileRange } from "./thread-protocol.ts";
import { normalName } from "./thread-jobs.ts";

const MAX_IMAGES = 1_000;

export interface DockerImage {
  readonly names: readonly string[];
  readonly config: Buffer;
  /** From the base up. */
  readonly layers: readonly FileRange[];
}

/** A layer after it was copied and hashed. */
export interface StoredLayer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly compression: Compression;
}

export async function readDockerArchive(files: ArchiveFiles): Promise<readonly DockerImage[]> {
  const list = parseJson(await files.read("manifest.json", MANIFEST_LIMITS.manifestBytes));
  if (!Array.isArray(list)) throw archiveInvalid("its manifest.json is not a list");
  if (list.length > MAX_IMAGES) throw archiveInvalid(`it has ${list.length} images, more than ${MAX_IMAGES}`);
  const images: DockerImage[] = [];
  for (const [index, item] of (list as unknown[]).entries()) images.push(await readItem(files, item, index));
  return images;
}

/** The image with a manifest of its own. */
export function dockerManifest({ names, config }: DockerImage, layers: readonly StoredLayer[]): ArchiveImage {
  const parsed = parseImageConfig(config, "an image of the archive");
  const configDigest = digestOf(config);
  const mediaTypes = {
    none: MEDIA_TYPES.dockerLayer,
    gzip: MEDIA_TYPES.dockerLayerGzip,
    // Docker's own types have none for it.
    zstd: MEDIA_TYPES.ociLayerZstd,
  };
  const manifest: OciManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.dockerManifest,
    config: { mediaType: MEDIA_TYPES.dockerConfig, size: config.length, digest: configDigest },
    layers: layers.map(({ digest, sizeBytes, compression }) => {
      return { mediaType: mediaTypes[compression], size: sizeBytes, digest };
    }),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const digest = digestOf(bytes);
  const target: Descriptor = { mediaType: MEDIA_TYPES.dockerManifest, digest, size: bytes.length };
  const { os, architecture, variant } = parsed;
  return {
    names,
    target,
    manifests: [{ digest, manifest, platform: { os, architecture, ...(variant ? { variant } : {}) } }],
    blobs: [
      { digest: configDigest, sizeBytes: config.length, source: { kind: "bytes", bytes: config } },
      { digest, sizeBytes: bytes.length, source: { kind: "bytes", bytes } },
    ],
  };
}

async function readItem(files: ArchiveFiles, item: unknown, index: number): Promise<DockerImage> {
  const fields = objectOf(item);
  const where = `manifest.json[${index}]`;
  const configName = fields?.["Config"];
  const layerNames = fields?.["Layers"] ?? [];
  const tags = fields?.["RepoTags"] ?? [];
  if (typeof configName !== "string") throw archiveInvalid(`${where}.Config is missing`);
  if (!isTexts(layerNames)) throw archiveInvalid(`${where}.Layers is not a list of paths`);
  if (!isTexts(tags)) throw archiveInvalid(`${where}.RepoTags is not a list of names`);
  if (layerNames.length > MANIFEST_LIMITS.layers) {
    throw archiveInvalid(`${where}.Layers has ${layerNames.length} layers, more than ${MANIFEST_LIMITS.layers}`);
  }
  const config = await files.read(inside(configName, `${where}.Config`), MANIFEST_LIMITS.configBytes);
  const { diff_ids: diffIds } = parseImageConfig(config, where).rootfs;
  if (diffIds.length !== layerNames.length) {
    throw archiveInvalid(`${where} has ${layerNames.length} layers but its config names ${diffIds.length}`);
  }
  const layers = layerNames.map((name, at) => {
    const range = files.find(inside(name, `${where}.Layers[${at}]`));
    if (range === undefined) throw archiveInvalid(`${where}.Layers[${at}]: ${JSON.stringify(name)} is not in it`);
    return range;
  });
  return { names: tags, config, layers };
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function inside(name: string, where: string): string {
  const normal = normalName(name);
  if (normal === undefined) throw archiveInvalid(`${where}: ${JSON.stringify(name.slice(0, 200))} leads out of it`);
  return normal;
}
