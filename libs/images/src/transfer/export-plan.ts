/** What an export consists of: documents and blobs by their names in the archive, in order. */
import { digestHex, StatusError, type Digest } from "@berth/base";
import {
  formatPlatform,
  hostPlatform,
  MEDIA_TYPES,
  normaliseImage,
  parseImageReference,
  platformRank,
  type Descriptor,
  type OciIndex,
  type Platform,
} from "@berth/model";
import { readDocuments, type ImageDocuments, type PresentManifest } from "../inspect/documents.ts";
import { layersOf } from "../pull/layers.ts";
import { blobPin } from "../pins.ts";
import { materialToJson } from "../verify/material.ts";
import type { TransferContext } from "./context.ts";
import { blobName } from "./oci-archive.ts";
import { signatureLayout } from "./signature-layout.ts";
import type { ArchivePart } from "./thread-protocol.ts";
import type { ExportRequest } from "./transfer.ts";

export interface ExportPlan {
  readonly names: readonly string[];
  readonly parts: readonly ArchivePart[];
}

interface Chosen {
  readonly name: string;
  readonly target: Descriptor;
  /** Indexes above the manifests. */
  readonly indexes: ImageDocuments["indexes"];
  readonly manifests: readonly PresentManifest[];
}

export async function exportParts(transfer: TransferContext, request: ExportRequest): Promise<ExportPlan> {
  if (request.images.length === 0) {
    throw StatusError.invalid([{ field: "images", description: "is empty; name at least one image" }]);
  }
  const names = [...new Set(request.images.map(normaliseImage))];
  const chosen: Chosen[] = [];
  for (const name of names) chosen.push(await choose(transfer, request, name));
  const parts = request.format === "docker" ? await dockerParts(transfer, chosen) : await ociParts(transfer, chosen);
  return { names, parts };
}

async function choose(transfer: TransferContext, request: ExportRequest, name: string): Promise<Chosen> {
  const { namespace, pins, deps } = transfer;
  const { rows, content } = deps.shared;
  const { target } = rows.get(namespace, name).record;
  pins.add(blobPin(namespace, target.digest));
  const documents = await readDocuments(content, namespace, name, target);
  for (const { descriptor } of documents.indexes) pins.add(blobPin(namespace, descriptor.digest));
  for (const { descriptor, manifest } of documents.manifests) {
    for (const { digest } of [descriptor, manifest.config, ...manifest.layers]) pins.add(blobPin(namespace, digest));
  }
  const whole = documents.manifests.filter(({ missing }) => missing.length === 0);
  if (whole.length === 0) throw incomplete(name, documents.manifests[0]?.missing[0] ?? target.digest);
  const wanted = request.platform ?? (request.format === "docker" ? hostPlatform : undefined);
  if (wanted === undefined)
    return { name, target: describe(documents.target.descriptor), indexes: documents.indexes, manifests: whole };
  const one = bestFor(whole, wanted) ?? (request.platform === undefined && whole.length === 1 ? whole[0] : undefined);
  if (one === undefined) throw platformMissing(name, wanted, whole);
  return { name, target: describe(one.descriptor), indexes: [], manifests: [one] };
}

function bestFor(manifests: readonly PresentManifest[], wanted: Platform): PresentManifest | undefined {
  return manifests
    .map((manifest) => ({ manifest, rank: manifest.platform ? platformRank(manifest.platform, wanted) : -1 }))
    .filter(({ rank }) => rank >= 0)
    .sort((a, b) => b.rank - a.rank)[0]?.manifest;
}

/** An OCI layout; with the `manifest.json` of Docker beside it, as containerd's exports have it. */
async function ociParts(transfer: TransferContext, chosen: readonly Chosen[]): Promise<ArchivePart[]> {
  const blobs = new Map<Digest, ArchivePart>();
  for (const { indexes, manifests } of chosen) {
    for (const { descriptor, bytes } of [...indexes, ...manifests]) {
      blobs.set(descriptor.digest, { kind: "bytes", name: blobName(descriptor.digest), bytes });
    }
    for (const { manifest } of manifests) {
      for (const blob of [manifest.config, ...manifest.layers]) {
        if (!blobs.has(blob.digest)) blobs.set(blob.digest, await blobPart(transfer, blob, blobName(blob.digest)));
      }
    }
  }
  const signatures = chosen.map((image) => signatureLayout(materialsOf(transfer, image)));
  for (const one of signatures)
    for (const { digest, bytes } of one?.blobs ?? [])
      blobs.set(digest, { kind: "bytes", name: blobName(digest), bytes });
  const manifests = chosen.map(({ name, target }) => ({ ...target, annotations: annotationsOf(name) }));
  const signed = signatures.flatMap((one) => (one === undefined ? [] : [one.descriptor]));
  const index: OciIndex = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [...manifests, ...signed] };
  const docker = dockerItems(
    chosen,
    ({ digest }) => blobName(digest),
    ({ digest }) => blobName(digest),
  );
  const algorithms = [...new Set([...blobs.keys()].map((digest) => digest.slice(0, digest.indexOf(":"))))].sort();
  return [
    json("oci-layout", { imageLayoutVersion: "1.0.0" }),
    json("index.json", index),
    ...(docker === undefined ? [] : [json("manifest.json", docker)]),
    { kind: "directory", name: "blobs" },
    ...algorithms.map((name): ArchivePart => ({ kind: "directory", name: `blobs/${name}` })),
    ...[...blobs].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, part]) => part),
  ];
}

/** What `docker save` writes: plain layers, each once. */
async function dockerParts(transfer: TransferContext, chosen: readonly Chosen[]): Promise<ArchivePart[]> {
  const { namespace, deps } = transfer;
  const parts = new Map<string, ArchivePart>();
  for (const { name, manifests } of chosen) {
    for (const { manifest, config, configBytes } of manifests) {
      if (config === undefined || configBytes === undefined) throw notRunnable(name);
      const configName = `${digestHex(manifest.config.digest)}.json`;
      parts.set(configName, { kind: "bytes", name: configName, bytes: configBytes });
      for (const { descriptor, diffId } of layersOf({ manifest, config })) {
        const path = await deps.shared.content.path(namespace, descriptor.digest);
        const layerName = `${digestHex(diffId)}.tar`;
        parts.set(layerName, { kind: "layer", name: layerName, path, diffId });
      }
    }
  }
  const items = dockerItems(
    chosen,
    ({ digest }) => `${digestHex(digest)}.json`,
    (_, diffId) => `${digestHex(diffId)}.tar`,
  );
  return [
    json("manifest.json", items ?? []),
    ...[...parts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, part]) => part),
  ];
}

/** Undefined where an image is none that Docker could run. */
function dockerItems(
  chosen: readonly Chosen[],
  configName: (config: Descriptor) => string,
  layerName: (layer: Descriptor, diffId: Digest) => string,
): readonly object[] | undefined {
  const byConfig = new Map<Digest, { Config: string; RepoTags: string[]; Layers: string[] }>();
  for (const { name, manifests } of chosen) {
    const one = bestFor(manifests, hostPlatform) ?? (manifests.length === 1 ? manifests[0] : undefined);
    if (one?.config === undefined) continue;
    const { manifest, config } = one;
    const tag = parseImageReference(name).tag === undefined ? [] : [name.replace(/@.*$/, "")];
    const known = byConfig.get(manifest.config.digest);
    if (known !== undefined) known.RepoTags.push(...tag);
    else {
      const layers = layersOf({ manifest, config }).map(({ descriptor, diffId }) => layerName(descriptor, diffId));
      byConfig.set(manifest.config.digest, { Config: configName(manifest.config), RepoTags: tag, Layers: layers });
    }
  }
  return byConfig.size === 0 ? undefined : [...byConfig.values()];
}

async function blobPart(transfer: TransferContext, blob: Descriptor, name: string): Promise<ArchivePart> {
  const path = await transfer.deps.shared.content.path(transfer.namespace, blob.digest);
  return { kind: "blob", name, path, digest: blob.digest, sizeBytes: blob.size };
}

/** Signatures that it was verified by here, so that the next host can verify it without a network. */
function materialsOf({ namespace, deps }: TransferContext, { target, manifests }: Chosen) {
  const digests = new Set([target.digest, ...manifests.map(({ descriptor }) => descriptor.digest)]);
  const all = [...digests].flatMap((digest) => deps.signatures.signatures(namespace, digest));
  return [...new Map(all.map((material) => [materialToJson(material), material])).values()];
}

function annotationsOf(name: string): Record<string, string> {
  const { tag } = parseImageReference(name);
  const named = { "io.containerd.image.name": name };
  return tag === undefined ? named : { ...named, "org.opencontainers.image.ref.name": tag };
}

function describe({ mediaType, digest, size, platform }: Descriptor): Descriptor {
  return { mediaType, digest, size, ...(platform && { platform }) };
}

function json(name: string, value: unknown): ArchivePart {
  return { kind: "bytes", name, bytes: Buffer.from(JSON.stringify(value)) };
}

function incomplete(name: string, digest: Digest): StatusError {
  return new StatusError("NOT_FOUND", `image ${name}: blob ${digest} is not on this node; pull the image again`, {
    reason: "BLOB_MISSING",
  });
}

function notRunnable(name: string): StatusError {
  const text = `image ${name} is an artifact, which a docker archive cannot hold; export it as "oci"`;
  return new StatusError("FAILED_PRECONDITION", text, { reason: "IMAGE_IS_ARTIFACT" });
}

function platformMissing(name: string, wanted: Platform, whole: readonly PresentManifest[]): StatusError {
  const there = whole.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
  const text = `image ${name}: platform ${formatPlatform(wanted)} is not on this node; there is ${there.join(", ") || "none"}`;
  return new StatusError("NOT_FOUND", text, { reason: "PLATFORM_MISSING" });
}
