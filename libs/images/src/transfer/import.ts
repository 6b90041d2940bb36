/** One import, from archive to recorded images; see transfer.ts for its story. */
import { hasCode, StatusError, throwIfAborted } from "@berth/base";
import type { Statement } from "@berth/metadata";
import { hostPlatform, parseImageReference, platformRank, type Descriptor, type Platform } from "@berth/model";
import { insertNamespace, labelImage, upsertImage } from "../rows.ts";
import { prepareImage, type PulledImage } from "../pull/pull.ts";
import { ProgressTracker } from "../pull/progress.ts";
import { readSignatures } from "../verify/find-signatures.ts";
import { SIGNATURE_LIMITS, type SignatureMaterial } from "../verify/material.ts";
import type { ArchiveFiles } from "./archive.ts";
import type { TransferContext } from "./context.ts";
import { dockerManifest, readDockerArchive, type DockerImage } from "./docker-archive.ts";
import { importNames } from "./import-names.ts";
import { blobName, readOciLayout, type ArchiveImage } from "./oci-archive.ts";
import { offlineRegistry } from "./offline-registry.ts";
import { openArchive } from "./open-archive.ts";
import { storeBlob, storeLayer } from "./store-blobs.ts";
import type { ArchiveFormat, ImportedImage, ImportRequest, ImportResult } from "./transfer.ts";
import type { TransferTracker } from "./transfer-progress.ts";

interface Contents {
  readonly format: ArchiveFormat;
  readonly images: readonly ArchiveImage[];
  readonly signatures: readonly SignatureMaterial[];
}

interface Prepared {
  readonly name: string;
  readonly pulled: PulledImage;
  readonly unpacked: boolean;
}

export async function importImages(
  transfer: TransferContext,
  request: ImportRequest,
  progress: TransferTracker,
): Promise<ImportResult> {
  const { deps, namespace, signal } = transfer;
  const { metadata, rows } = deps.shared;
  await metadata.transact([insertNamespace(namespace)]);
  const { format, images, signatures } = await storeContents(transfer, request, progress);
  progress.phase("unpacking");
  const prepared: Prepared[] = [];
  for (const { image, name } of importNames(images, request)) {
    prepared.push(await prepare(transfer, request, image, name, signatures));
  }
  throwIfAborted(signal);
  progress.phase("recording");
  await metadata.transact(prepared.flatMap((one) => record(transfer, request, one)));
  deps.shared.grew(namespace);
  progress.phase("done");
  const imported = prepared.map(({ name, pulled, unpacked }): ImportedImage => {
    return { record: rows.get(namespace, name).record, manifest: pulled.manifestDigest, unpacked };
  });
  return { format, images: imported };
}

/** All that the archive's images need, committed; the archive is not needed any more after it. */
async function storeContents(
  transfer: TransferContext,
  request: ImportRequest,
  progress: TransferTracker,
): Promise<Contents> {
  await using archive = await openArchive(transfer, request.source);
  const { files } = archive;
  if (files.find("index.json") !== undefined) return await storeLayout(transfer, request, files, progress);
  if (files.find("manifest.json") !== undefined) return await storeDocker(transfer, request, files, progress);
  const text = "archive: it has neither index.json (an OCI layout) nor manifest.json (docker save)";
  throw new StatusError("INVALID_ARGUMENT", text, { reason: "ARCHIVE_INVALID" });
}

async function storeLayout(
  transfer: TransferContext,
  request: ImportRequest,
  files: ArchiveFiles,
  progress: TransferTracker,
): Promise<Contents> {
  const { content } = transfer.deps.shared;
  const layout = await readOciLayout({ files, has: (digest) => content.has(transfer.namespace, digest) });
  const wanted = new Set(importNames(layout.images, request).map(({ image }) => image));
  const images = layout.images.filter((image) => wanted.has(image));
  const signatures: SignatureMaterial[] = [];
  for (const manifest of layout.signatures) {
    const left = SIGNATURE_LIMITS.count - signatures.length;
    const read = (layer: Descriptor): Promise<Buffer> =>
      files.read(blobName(layer.digest), SIGNATURE_LIMITS.bundleBytes);
    signatures.push(...(await readSignatures(manifest, left, read)));
  }
  for (const { blobs } of images) for (const { digest, sizeBytes } of blobs) progress.add(digest, sizeBytes);
  progress.phase("copying");
  for (const { blobs } of images) for (const blob of blobs) await storeBlob(transfer, blob);
  return { format: "oci", images, signatures };
}

async function storeDocker(
  transfer: TransferContext,
  request: ImportRequest,
  files: ArchiveFiles,
  progress: TransferTracker,
): Promise<Contents> {
  const all = await readDockerArchive(files);
  const wanted = new Set(importNames(all, request).map(({ image }) => image));
  progress.phase("copying");
  // Images share layers: by the place in the archive, each is copied once.
  const stored = new Map<string, Awaited<ReturnType<typeof storeLayer>>>();
  const images: ArchiveImage[] = [];
  for (const docker of all) if (wanted.has(docker)) images.push(await storeDockerImage(transfer, docker, stored));
  return { format: "docker", images, signatures: [] };
}

async function storeDockerImage(
  transfer: TransferContext,
  docker: DockerImage,
  stored: Map<string, Awaited<ReturnType<typeof storeLayer>>>,
): Promise<ArchiveImage> {
  const layers: Awaited<ReturnType<typeof storeLayer>>[] = [];
  for (const range of docker.layers) {
    const place = range.kind === "file" ? String(range.offset) : range.name;
    const layer = stored.get(place) ?? (await storeLayer(transfer, range));
    stored.set(place, layer);
    layers.push(layer);
  }
  const image = dockerManifest(docker, layers);
  for (const blob of image.blobs) await storeBlob(transfer, blob);
  return image;
}

/** Verified, and unpacked where this host can run it, by the pull's own path, which finds everything here. */
async function prepare(
  transfer: TransferContext,
  request: ImportRequest,
  image: ArchiveImage,
  name: string,
  signatures: readonly SignatureMaterial[],
): Promise<Prepared> {
  const { deps, namespace, pins, signal } = transfer;
  const { shared } = deps;
  const chosen = choosePlatform(image, request.platform ?? hostPlatform);
  if (request.platform !== undefined && !chosen.fits) throw platformMissing(name, request.platform);
  const unpack = request.snapshotter !== undefined && chosen.fits;
  const snapshots = request.snapshotter === undefined ? deps.anySnapshotter() : deps.snapshotter(request.snapshotter);
  using progress = new ProgressTracker(
    namespace,
    name,
    () => {},
    () => shared.clock.monotonicMs(),
  );
  const pulled = await prepareImage({
    shared,
    namespace,
    ref: { ...parseImageReference(name), digest: image.target.digest },
    image: name,
    platform: chosen.platform,
    snapshots,
    registry: offlineRegistry,
    signal,
    pins,
    progress,
    unpack,
    lease: request.lease,
    signatures: async () => signatures,
  }).catch((error: unknown) => {
    throw notInArchive(error, name);
  });
  return { name, pulled, unpacked: unpack && pulled.config !== undefined };
}

interface Choice {
  readonly platform: Platform;
  readonly fits: boolean;
}

/** The best of those in the archive; without one that fits, the first. An artifact fits any. */
function choosePlatform({ manifests }: ArchiveImage, wanted: Platform): Choice {
  const platforms = manifests.map(({ platform }) => platform).filter((platform) => platform !== undefined);
  const ranked = platforms
    .map((platform) => ({ platform, rank: platformRank(platform, wanted) }))
    .filter(({ rank }) => rank >= 0)
    .sort((a, b) => b.rank - a.rank);
  const best = ranked[0]?.platform;
  if (best !== undefined) return { platform: best, fits: true };
  return { platform: platforms[0] ?? wanted, fits: platforms.length === 0 };
}

function record(
  { namespace, deps }: TransferContext,
  { labels }: ImportRequest,
  { name, pulled }: Prepared,
): Statement[] {
  const nowMs = deps.shared.clock.nowMs();
  const upsert = upsertImage(namespace, name, pulled.target, pulled.manifestDigest, nowMs);
  return labels === undefined ? [upsert] : [upsert, labelImage(namespace, name, labels)];
}

function platformMissing(name: string, { os, architecture }: Platform): StatusError {
  const text = `image ${name}: the archive has nothing for platform ${os}/${architecture}`;
  return new StatusError("NOT_FOUND", text, { reason: "PLATFORM_MISSING" });
}

function notInArchive(error: unknown, name: string): unknown {
  if (!hasCode(error, "NOT_FOUND") || error.reason === "PLATFORM_MISSING") return error;
  return new StatusError("INVALID_ARGUMENT", `image ${name}: archive: ${error.message}`, {
    reason: "ARCHIVE_INVALID",
    cause: error,
  });
}
