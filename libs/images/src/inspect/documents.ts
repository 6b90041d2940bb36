/**
 * What of an image is here: the documents beneath its target, as far as the namespace has them, and which manifests are
 * whole. Reads only this namespace's content (D7); numbers and depths are bounded.
 */
import { hasCode, StatusError, type Digest } from "@berth/base";
import type { ContentStore } from "@berth/content";
import {
  isIndexType,
  isManifestType,
  MANIFEST_LIMITS,
  parseManifest,
  type Descriptor,
  type OciImageConfig,
  type OciManifest,
  type Platform,
} from "@berth/model";
import { kindOf } from "../pull/artifact.ts";

const MAX_DEPTH = 4;
const MAX_DOCUMENTS = 2_000;

export interface PresentManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly manifest: OciManifest;
  /** Undefined for an artifact, or where the config is missing. */
  readonly config: OciImageConfig | undefined;
  readonly configBytes: Uint8Array | undefined;
  readonly platform: Platform | undefined;
  /** Config and layers that are not here. */
  readonly missing: readonly Digest[];
}

export interface PresentDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

export interface ImageDocuments {
  readonly target: PresentDocument;
  /** Indexes, from the target down. */
  readonly indexes: readonly PresentDocument[];
  readonly manifests: readonly PresentManifest[];
  /** Manifests and indexes that an index names and that are not here. */
  readonly absent: readonly Descriptor[];
}

/** @throws NOT_FOUND `IMAGE_MISSING` when the target itself is not here */
export async function readDocuments(
  content: ContentStore,
  namespace: string,
  image: string,
  target: Descriptor,
): Promise<ImageDocuments> {
  const walk = new Walk(content, namespace, image);
  const root = await walk.descend(target, 0);
  if (root === undefined) {
    const text = `image "${image}" is incomplete (${target.digest} is gone); pull it again`;
    throw new StatusError("NOT_FOUND", text, { reason: "IMAGE_MISSING" });
  }
  return { target: root, indexes: walk.indexes, manifests: walk.manifests, absent: walk.absent };
}

class Walk {
  readonly indexes: PresentDocument[] = [];
  readonly manifests: PresentManifest[] = [];
  readonly absent: Descriptor[] = [];
  readonly #content: ContentStore;
  readonly #namespace: string;
  readonly #image: string;
  readonly #seen = new Set<Digest>();

  constructor(content: ContentStore, namespace: string, image: string) {
    this.#content = content;
    this.#namespace = namespace;
    this.#image = image;
  }

  async descend(entry: Descriptor, depth: number): Promise<PresentDocument | undefined> {
    if (this.#seen.has(entry.digest) || depth > MAX_DEPTH || this.#seen.size >= MAX_DOCUMENTS) return undefined;
    this.#seen.add(entry.digest);
    const bytes = await this.#read(entry.digest, MANIFEST_LIMITS.manifestBytes);
    if (bytes === undefined) {
      this.absent.push(entry);
      return undefined;
    }
    const parsed = parseManifest(bytes, this.#image);
    const { digest, platform } = entry;
    const descriptor = { mediaType: parsed.mediaType, digest, size: bytes.length, ...(platform && { platform }) };
    if (parsed.kind === "manifest") {
      this.manifests.push(await this.#manifest({ descriptor, bytes }, parsed.manifest));
    } else {
      this.indexes.push({ descriptor, bytes });
      for (const child of parsed.index.manifests) {
        if (isIndexType(child.mediaType) || isManifestType(child.mediaType)) await this.descend(child, depth + 1);
      }
    }
    return { descriptor, bytes };
  }

  async #manifest({ descriptor, bytes }: PresentDocument, manifest: OciManifest): Promise<PresentManifest> {
    const configBytes = await this.#read(manifest.config.digest, MANIFEST_LIMITS.configBytes);
    const config = configBytes === undefined ? undefined : kindOf(manifest, configBytes, this.#image).config;
    const missing = configBytes === undefined ? [manifest.config.digest] : [];
    for (const { digest } of manifest.layers) {
      if (!(await this.#content.has(this.#namespace, digest))) missing.push(digest);
    }
    const platform = config === undefined ? descriptor.platform : platformOf(config);
    return { descriptor, bytes, manifest, config, configBytes, platform, missing };
  }

  async #read(digest: Digest, maxBytes: number): Promise<Uint8Array | undefined> {
    try {
      return await this.#content.readAll(this.#namespace, digest, maxBytes);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
  }
}

function platformOf({ os, architecture, variant }: OciImageConfig): Platform {
  return { os, architecture, ...(variant ? { variant } : {}) };
}
