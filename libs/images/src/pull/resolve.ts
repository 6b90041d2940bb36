/**
 * From a reference to the manifest for a platform and its config; all of them stored, re-hashed.
 *
 * What the namespace has already is not fetched again: a tag costs one HEAD, whose answer proves that the tenant may still
 * read it there, and whose digest is good only for finding bytes that were hashed here.
 */
import { StatusError, type Digest } from "@berth/base";
import {
  choosePlatform,
  formatPlatform,
  isIndexType,
  isManifestType,
  MANIFEST_LIMITS,
  MEDIA_TYPES,
  parseImageConfig,
  parseManifest,
  type Descriptor,
  type ManifestDocument,
  type OciImageConfig,
  type OciIndex,
  type OciManifest,
  type Platform,
} from "@berth/model";
import { fetchSmall, readOwn, storeSmall } from "./blobs.ts";
import type { PullContext } from "./context.ts";

/** Indexes within indexes; more than one level is rare already. */
const MAX_DEPTH = 4;
const LAYER_TYPES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.ociLayer,
  MEDIA_TYPES.ociLayerGzip,
  MEDIA_TYPES.ociLayerZstd,
  MEDIA_TYPES.dockerLayer,
  MEDIA_TYPES.dockerLayerGzip,
]);

export interface ResolvedImage {
  /** What the reference points to: an index or a manifest. */
  readonly target: Descriptor;
  readonly manifestDigest: Digest;
  readonly manifest: OciManifest;
  readonly config: OciImageConfig;
}

export async function resolveImage(pull: PullContext): Promise<ResolvedImage> {
  const root = await fetchRoot(pull);
  const found = await descend(pull, root.descriptor, root.document, 0);
  const config = await fetchConfig(pull, found.manifest);
  checkLayers(pull, found.manifest, config);
  return { target: root.descriptor, manifestDigest: found.digest, manifest: found.manifest, config };
}

interface Fetched {
  readonly descriptor: Descriptor;
  readonly document: ManifestDocument;
}

async function fetchRoot(pull: PullContext): Promise<Fetched> {
  const { ref, signal } = pull;
  // A namespace that has never pulled this cannot have it: asking first would only cost a round trip.
  const known = pull.shared.rows.find(pull.namespace, pull.image) !== undefined;
  const digest = ref.digest ?? (known ? await pull.registry.resolve(ref, { signal }) : undefined);
  const own = digest === undefined ? undefined : await readOwn(pull, digest, MANIFEST_LIMITS.manifestBytes);
  if (digest !== undefined && own !== undefined) return parsed(pull, digest, own);
  const { descriptor, bytes } = await pull.registry.manifest(ref, { signal });
  await storeSmall(pull, "manifest", descriptor.digest, bytes);
  return parsed(pull, descriptor.digest, bytes, descriptor.mediaType);
}

function parsed(pull: PullContext, digest: Digest, bytes: Uint8Array, contentType?: string): Fetched {
  const document = parseManifest(bytes, pull.image, contentType);
  return { descriptor: { mediaType: document.mediaType, digest, size: bytes.length }, document };
}

async function descend(
  pull: PullContext,
  descriptor: Descriptor,
  document: ManifestDocument,
  depth: number,
): Promise<{ digest: Digest; manifest: OciManifest }> {
  if (document.kind === "manifest") return { digest: descriptor.digest, manifest: document.manifest };
  if (depth >= MAX_DEPTH) throw unsupported(pull, `its index is nested more than ${MAX_DEPTH} deep`);
  const chosen = chooseEntry(document.index, pull.platform);
  if (chosen === undefined) throw platformMissing(pull, document.index);
  const child = await fetchChild(pull, chosen);
  return await descend(pull, chosen, child.document, depth + 1);
}

/** The entry for the platform; else the only entry that names none: an index within the index, or a lone manifest. */
function chooseEntry(index: OciIndex, platform: Platform): Descriptor | undefined {
  const readable = index.manifests.filter(({ mediaType }) => isIndexType(mediaType) || isManifestType(mediaType));
  const fitting = choosePlatform(readable, platform);
  if (fitting !== undefined) return fitting;
  const nameless = readable.filter((entry) => entry.platform === undefined);
  return nameless.length === 1 ? nameless[0] : undefined;
}

async function fetchChild(pull: PullContext, { digest, size }: Descriptor): Promise<Fetched> {
  const own = await readOwn(pull, digest, MANIFEST_LIMITS.manifestBytes);
  if (own !== undefined) return parsed(pull, digest, own);
  const { descriptor, bytes } = await pull.registry.manifest(
    { ...pull.ref, tag: undefined, digest },
    { signal: pull.signal },
  );
  if (bytes.length !== size)
    throw unsupported(pull, `its index gives manifest ${digest} a size of ${size}, not ${bytes.length}`);
  await storeSmall(pull, "manifest", digest, bytes);
  return parsed(pull, digest, bytes, descriptor.mediaType);
}

async function fetchConfig(pull: PullContext, manifest: OciManifest): Promise<OciImageConfig> {
  const { mediaType } = manifest.config;
  if (mediaType !== MEDIA_TYPES.ociConfig && mediaType !== MEDIA_TYPES.dockerConfig) {
    throw unsupported(pull, `its config is a ${mediaType}, so it is an artifact and no container image`);
  }
  const config = parseImageConfig(
    await fetchSmall(pull, "config", manifest.config, MANIFEST_LIMITS.configBytes),
    pull.image,
  );
  const offered: Platform = { os: config.os, architecture: config.architecture };
  if (offered.os === pull.platform.os && offered.architecture === pull.platform.architecture) return config;
  throw missing(pull, [formatPlatform({ ...offered, ...(config.variant ? { variant: config.variant } : {}) })]);
}

function checkLayers(pull: PullContext, manifest: OciManifest, config: OciImageConfig): void {
  const diffs = config.rootfs.diff_ids.length;
  if (manifest.layers.length !== diffs) {
    throw unsupported(pull, `its manifest has ${manifest.layers.length} layers but its config names ${diffs}`);
  }
  for (const { mediaType, digest } of manifest.layers) {
    if (LAYER_TYPES.has(mediaType)) continue;
    const foreign = /foreign|nondistributable/.test(mediaType);
    const why = foreign
      ? "is kept outside the registry (a foreign layer)"
      : `is of unknown type ${mediaType.slice(0, 100)}`;
    throw new StatusError("UNIMPLEMENTED", `image ${pull.image}: layer ${digest} ${why} and cannot be pulled`, {
      reason: "LAYER_UNSUPPORTED",
    });
  }
}

function platformMissing(pull: PullContext, index: OciIndex): StatusError {
  const offered = index.manifests.map(({ platform }) => platform).filter((platform) => platform !== undefined);
  return missing(pull, [...new Set(offered.filter(({ os }) => os !== "unknown").map(formatPlatform))]);
}

function missing(pull: PullContext, offered: readonly string[]): StatusError {
  const list = offered.length === 0 ? "none" : offered.slice(0, 30).join(", ");
  const text = `image ${pull.image}: nothing for platform ${formatPlatform(pull.platform)}; it offers ${list}`;
  return new StatusError("NOT_FOUND", text, { reason: "PLATFORM_MISSING" });
}

function unsupported(pull: PullContext, why: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `image ${pull.image}: ${why}`, { reason: "MANIFEST_UNSUPPORTED" });
}
