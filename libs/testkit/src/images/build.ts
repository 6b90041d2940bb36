/** Makes OCI images out of lists of files: layers, config, manifest and index, with their digests. */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { digestOf, type Digest } from "@berth/base";
import { MEDIA_TYPES, type Descriptor, type OciImageConfig, type OciIndex, type OciManifest } from "@berth/model";
import { tar, type TarEntry } from "./tar.ts";

export type Compression = "gzip" | "none" | "zstd";

export interface LayerSpec {
  readonly entries: Iterable<TarEntry>;
  /** Default gzip. */
  readonly compression?: Compression;
}

/** A layer as it is stored, and the digest of what it unpacks to. */
export interface BuiltLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly blob: ImageBlob;
}

/** Bytes in memory, or a file for those that are large. */
export type ImageBlob = { readonly bytes: Buffer } | { readonly file: string };

export interface ImageSpec {
  readonly layers: readonly (LayerSpec | BuiltLayer)[];
  /** What stands beneath `config` in the image's config: Entrypoint, Cmd, Env, User, WorkingDir… */
  readonly config?: NonNullable<OciImageConfig["config"]>;
  readonly architecture?: string;
  readonly os?: string;
  /** Replaces the diff ids, to make an image that lies. */
  readonly diffIds?: readonly Digest[];
  /** "docker" writes schema 2's media types. Default "oci". */
  readonly format?: "oci" | "docker";
}

export interface BuiltImage {
  /** What a tag points at: a manifest or an index. */
  readonly root: Descriptor;
  /** Manifests by digest, those an index names before the index itself. */
  readonly manifests: ReadonlyMap<Digest, { readonly mediaType: string; readonly bytes: Buffer }>;
  /** Configs and layers by digest. */
  readonly blobs: ReadonlyMap<Digest, ImageBlob>;
  /** Of the image (of an index: none). */
  readonly layers: readonly BuiltLayer[];
}

const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = { x64: "amd64", arm64: "arm64" };

export function buildLayer(spec: LayerSpec, format: "oci" | "docker" = "oci"): BuiltLayer {
  const plain = tar(spec.entries);
  const { compression = "gzip" } = spec;
  const bytes = compress(plain, compression);
  const mediaType = layerMediaType(compression, format);
  return {
    descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length },
    diffId: digestOf(plain),
    blob: { bytes },
  };
}

export function buildImage(spec: ImageSpec): BuiltImage {
  const { format = "oci", architecture = ARCHITECTURES[process.arch] ?? process.arch, os = "linux" } = spec;
  const layers = spec.layers.map((layer) => ("descriptor" in layer ? layer : buildLayer(layer, format)));
  const config: OciImageConfig = {
    created: "2024-01-01T00:00:00Z",
    architecture,
    os,
    config: spec.config ?? {},
    rootfs: { type: "layers", diff_ids: spec.diffIds ?? layers.map((layer) => layer.diffId) },
  };
  const configBytes = Buffer.from(JSON.stringify(config));
  const docker = format === "docker";
  const manifest: OciManifest = {
    schemaVersion: 2,
    mediaType: docker ? MEDIA_TYPES.dockerManifest : MEDIA_TYPES.ociManifest,
    config: {
      mediaType: docker ? MEDIA_TYPES.dockerConfig : MEDIA_TYPES.ociConfig,
      digest: digestOf(configBytes),
      size: configBytes.length,
    },
    layers: layers.map((layer) => layer.descriptor),
  };
  const root = withBytes(manifest);
  return {
    root: { ...root.descriptor, platform: { os, architecture } },
    manifests: new Map([[root.descriptor.digest, root.content]]),
    blobs: new Map<Digest, ImageBlob>([
      [manifest.config.digest, { bytes: configBytes }],
      ...layers.map((layer) => [layer.descriptor.digest, layer.blob] as const),
    ]),
    layers,
  };
}

/** An index over images (or over other indexes). */
export function buildIndex(images: readonly BuiltImage[], format: "oci" | "docker" = "oci"): BuiltImage {
  const index: OciIndex = {
    schemaVersion: 2,
    mediaType: format === "docker" ? MEDIA_TYPES.dockerIndex : MEDIA_TYPES.ociIndex,
    manifests: images.map((image) => image.root),
  };
  const { descriptor, content } = withBytes(index);
  return {
    root: descriptor,
    manifests: new Map([...images.flatMap((image) => [...image.manifests]), [descriptor.digest, content]]),
    blobs: new Map(images.flatMap((image) => [...image.blobs])),
    layers: [],
  };
}

function withBytes(document: OciManifest | OciIndex): {
  descriptor: Descriptor;
  content: { mediaType: string; bytes: Buffer };
} {
  const bytes = Buffer.from(JSON.stringify(document));
  const mediaType = document.mediaType ?? "";
  return { descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length }, content: { mediaType, bytes } };
}

function compress(plain: Buffer, compression: Compression): Buffer {
  switch (compression) {
    case "none":
      return plain;
    case "gzip":
      return gzipSync(plain, { level: 6 });
    case "zstd":
      return zstdCompressSync(plain);
  }
}

function layerMediaType(compression: Compression, format: "oci" | "docker"): string {
  switch (compression) {
    case "none":
      return format === "docker" ? MEDIA_TYPES.dockerLayer : MEDIA_TYPES.ociLayer;
    case "gzip":
      return format === "docker" ? MEDIA_TYPES.dockerLayerGzip : MEDIA_TYPES.ociLayerGzip;
    case "zstd":
      return MEDIA_TYPES.ociLayerZstd;
  }
}
