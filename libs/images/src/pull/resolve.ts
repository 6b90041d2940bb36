/**
 * From a reference to the manifest for a platform and its config; all of them stored, re-hashed.
 *
 * What the namespace has already is not fetched again: a tag costs one HEAD, whose answer proves that the tenant may still
 * read it there, and whose digest is good only for finding bytes that were hashed here.
 *
 * Invariant: however indexes are nested, at most {@link MAX_DOCUMENTS} documents are fetched, {@link MAX_DEPTH} deep.
 */
import { StatusError, type Digest } from "@berth/base";
import {
  formatPlatform,
  isIndexType,
  isManifestType,
  MANIFEST_LIMITS,
  parseManifest,
  platformRank,
  type Descriptor,
  type ManifestDocument,
  type OciImageConfig,
  type OciManifest,
  type Platform,
} from "@berth/model";
import { isLayerType, kindOf, type ImageKind } from "./artifact.ts";
import { fetchSmall, readOwn, storeSmall } from "./blobs.ts";
import type { PullInput } from "./context.ts";
import { planProcessors } from "./stream-processors.ts";
import type { VerifiedDocument } from "./verification.ts";

/** Indexes within indexes; more than one level is rare already. */
const MAX_DEPTH = 4;
const MAX_DOCUMENTS = 32;

export interface ResolvedImage {
  /** What the reference points to: an index or a manifest. */
  readonly target: Descriptor;
  readonly manifestDigest: Digest;
  readonly manifest: OciManifest;
  /** Undefined for an artifact, which is stored but never unpacked. */
  readonly config: OciImageConfig | undefined;
  /** What an artifact is, by its media type. */
  readonly artifactType: string | undefined;
  readonly documents: { readonly target: VerifiedDocument; readonly manifest: VerifiedDocument };
}

/** @param onFetch called before something is asked of the registry that may lead to layers */
export async function resolveImage(pull: PullInput, onFetch: () => void = () => {}): Promise<ResolvedImage> {
  const root = await fetchRoot(pull, onFetch);
  const search = new Search(pull);
  const found = await search.descend(root, 0);
  if (found === undefined) throw missing(pull, search.offered());
  const { manifest } = found;
  const { config, artifactType } = await fetchConfig(pull, manifest);
  if (config !== undefined) checkLayers(pull, manifest, config);
  return {
    target: root.descriptor,
    manifestDigest: found.descriptor.digest,
    manifest,
    config,
    artifactType,
    documents: { target: root, manifest: found },
  };
}

interface Fetched extends VerifiedDocument {
  readonly document: ManifestDocument;
}

interface FoundManifest extends VerifiedDocument {
  readonly manifest: OciManifest;
}

async function fetchRoot(pull: PullInput, onFetch: () => void): Promise<Fetched> {
  const { ref, signal } = pull;
  // A namespace that has never pulled this cannot have it: asking first would only cost a round trip.
  const known = pull.shared.rows.find(pull.namespace, pull.image) !== undefined;
  const digest = ref.digest ?? (known ? await pull.registry.resolve(ref, { signal }) : undefined);
  const own = digest === undefined ? undefined : await readOwn(pull, digest, MANIFEST_LIMITS.manifestBytes);
  if (digest !== undefined && own !== undefined) return parsed(pull, digest, own);
  onFetch();
  const { descriptor, bytes } = await pull.registry.manifest(ref, { signal });
  await storeSmall(pull, "manifest", descriptor.digest, bytes);
  return parsed(pull, descriptor.digest, bytes, descriptor.mediaType);
}

function parsed(pull: PullInput, digest: Digest, bytes: Uint8Array, contentType?: string): Fetched {
  const document = parseManifest(bytes, pull.image, contentType);
  return { descriptor: { mediaType: document.mediaType, digest, size: bytes.length }, bytes, document };
}

/** The way from an index to the manifest that fits best; entries that name no platform are looked into after those that do. */
class Search {
  readonly #pull: PullInput;
  readonly #seen = new Set<Digest>();
  readonly #platforms: Platform[] = [];

  constructor(pull: PullInput) {
    this.#pull = pull;
  }

  /** Which platforms there were, for an error. */
  offered(): string[] {
    const real = this.#platforms.filter(({ os }) => os !== "unknown");
    return [...new Set(real.map(formatPlatform))];
  }

  async descend({ descriptor, bytes, document }: Fetched, depth: number): Promise<FoundManifest | undefined> {
    if (document.kind === "manifest") return { descriptor, bytes, manifest: document.manifest };
    if (depth >= MAX_DEPTH) throw unsupported(this.#pull, `its index is nested more than ${MAX_DEPTH} deep`);
    this.#seen.add(descriptor.digest);
    for (const entry of this.#candidates(document.index.manifests)) {
      // What has been looked through, on the way here or beside it, holds nothing.
      if (this.#seen.has(entry.digest)) continue;
      this.#seen.add(entry.digest);
      if (this.#seen.size > MAX_DOCUMENTS) {
        throw unsupported(this.#pull, `its indexes lead to more than ${MAX_DOCUMENTS} documents`);
      }
      const found = await this.descend(await fetchChild(this.#pull, entry), depth + 1);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Best first. Of entries without a platform, indexes; a manifest only if it is all there is. */
  #candidates(entries: readonly Descriptor[]): Descriptor[] {
    const readable = entries.filter(({ mediaType }) => isIndexType(mediaType) || isManifestType(mediaType));
    for (const { platform } of readable) if (platform !== undefined) this.#platforms.push(platform);
    const ranked = readable
      .map((entry) => ({ entry, rank: entry.platform ? platformRank(entry.platform, this.#pull.platform) : -1 }))
      .filter(({ rank }) => rank >= 0)
      .sort((a, b) => b.rank - a.rank)
      .map(({ entry }) => entry);
    const nameless = readable.filter(({ platform }) => platform === undefined);
    return [
      ...ranked,
      ...(nameless.length === 1 ? nameless : nameless.filter((entry) => isIndexType(entry.mediaType))),
    ];
  }
}

async function fetchChild(pull: PullInput, { digest, size }: Descriptor): Promise<Fetched> {
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

async function fetchConfig(pull: PullInput, manifest: OciManifest): Promise<ImageKind> {
  const bytes = await fetchSmall(pull, "config", manifest.config, MANIFEST_LIMITS.configBytes);
  const kind = kindOf(manifest, bytes, pull.image);
  if (kind.config === undefined) return kind;
  const { config } = kind;
  const offered: Platform = { os: config.os, architecture: config.architecture, ...variantOf(config) };
  if (platformRank(offered, pull.platform) >= 0) return kind;
  throw missing(pull, [formatPlatform(offered)]);
}

function variantOf({ variant }: OciImageConfig): { readonly variant?: string } {
  return variant === undefined || variant === "" ? {} : { variant };
}

function checkLayers(pull: PullInput, manifest: OciManifest, config: OciImageConfig): void {
  const diffs = config.rootfs.diff_ids.length;
  if (manifest.layers.length !== diffs) {
    throw unsupported(pull, `its manifest has ${manifest.layers.length} layers but its config names ${diffs}`);
  }
  const { processors = [] } = pull.shared.decompress;
  for (const { mediaType, digest } of manifest.layers) {
    if (isLayerType(mediaType) || planProcessors(mediaType, processors).length > 0) continue;
    const foreign = /foreign|nondistributable/.test(mediaType);
    const why = foreign
      ? "is kept outside the registry (a foreign layer)"
      : `is of unknown type ${mediaType.slice(0, 100)}`;
    throw new StatusError("UNIMPLEMENTED", `image ${pull.image}: layer ${digest} ${why} and cannot be pulled`, {
      reason: "LAYER_UNSUPPORTED",
    });
  }
}

function missing(pull: PullInput, offered: readonly string[]): StatusError {
  const list = offered.length === 0 ? "none" : offered.slice(0, 30).join(", ");
  const text = `image ${pull.image}: nothing for platform ${formatPlatform(pull.platform)}; it offers ${list}`;
  return new StatusError("NOT_FOUND", text, { reason: "PLATFORM_MISSING" });
}

function unsupported(pull: PullInput, why: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `image ${pull.image}: ${why}`, { reason: "MANIFEST_UNSUPPORTED" });
}
