/**
 * An OCI image layout as an import sees it: its images by name, the documents beneath each, and which blobs they need.
 *
 * Invariants: a document is used only if it hashes to what names it (A3); a manifest that is in the archive is there with
 * all its blobs, or the namespace has them; manifests that an index names may be missing, as after an export of some
 * platforms. Numbers and depths are bounded.
 */
import { digestHex, digestAlgorithm, digestOf, toDigest, type Digest } from "@berth/base";
import { createHash } from "node:crypto";
import {
  isIndexType,
  isManifestType,
  MANIFEST_LIMITS,
  parseManifest,
  type Descriptor,
  type ManifestDocument,
  type OciManifest,
  type Platform,
} from "@berth/model";
import { kindOf } from "../pull/artifact.ts";
import { archiveInvalid, type ArchiveFiles } from "./archive.ts";
import type { FileRange } from "./thread-protocol.ts";

const MAX_DEPTH = 4;
const MAX_DOCUMENTS = 2_000;
const MAX_LAYOUT_BYTES = 1024;
const CONTAINERD_NAME = "io.containerd.image.name";
const REF_NAME = "org.opencontainers.image.ref.name";
const COSIGN_KIND = "kind";
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const SIGNATURE_NAME = /(?:^|:)sha256-[0-9a-f]{64}\.sig$/;

/** One manifest of an image with what it needs. */
export interface ArchiveManifest {
  readonly digest: Digest;
  readonly manifest: OciManifest;
  /** Undefined for an artifact. */
  readonly platform: Platform | undefined;
}

export interface ArchiveBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly source: FileRange | { readonly kind: "bytes"; readonly bytes: Buffer };
}

export interface ArchiveImage {
  /** As the archive says them; empty for an image without a name, and possibly only a tag. */
  readonly names: readonly string[];
  readonly target: Descriptor;
  readonly manifests: readonly ArchiveManifest[];
  /** Documents and blobs that are in the archive; children before parents. */
  readonly blobs: readonly ArchiveBlob[];
}

export interface ReadLayout {
  readonly images: readonly ArchiveImage[];
  /** Manifests of signatures. */
  readonly signatures: readonly Buffer[];
}

export interface LayoutDeps {
  readonly files: ArchiveFiles;
  /** Has the namespace this blob already? */
  readonly has: (digest: Digest) => Promise<boolean>;
}

export function blobName(digest: Digest): string {
  return `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}

export async function readOciLayout(deps: LayoutDeps): Promise<ReadLayout> {
  const { files } = deps;
  const layout = (await files.read("oci-layout", MAX_LAYOUT_BYTES)).toString("utf8");
  if (!/"imageLayoutVersion"\s*:\s*"1\.\d+\.\d+"/.test(layout)) {
    throw archiveInvalid("its oci-layout does not name version 1 of the image layout");
  }
  const bytes = await files.read("index.json", MANIFEST_LIMITS.manifestBytes);
  const document = parseManifest(bytes, "the archive's index.json", undefined);
  if (document.kind !== "index") throw archiveInvalid("its index.json is not an index");
  const images = new Map<Digest, { readonly names: string[]; readonly target: Descriptor }>();
  const signatures: Buffer[] = [];
  for (const entry of document.index.manifests) {
    if (isSignature(entry)) signatures.push(await readDocument(files, entry));
    else if (isIndexType(entry.mediaType) || isManifestType(entry.mediaType)) {
      const image = images.get(entry.digest) ?? { names: [], target: entry };
      const name = nameOf(entry);
      if (name !== undefined && !image.names.includes(name)) image.names.push(name);
      images.set(entry.digest, image);
    }
  }
  const read: ArchiveImage[] = [];
  for (const { names, target } of images.values()) read.push({ names, ...(await readImage(deps, target)) });
  return { images: read, signatures };
}

/**
 * containerd's annotation has the whole name, OCI's often only a tag. Tools that know only the second one keep the first when
 * they tag anew: then the repository is right and the tag is not.
 */
function nameOf({ annotations = {} }: Descriptor): string | undefined {
  const [full, ref] = [annotations[CONTAINERD_NAME], annotations[REF_NAME]];
  if (!full || !ref || !TAG.test(ref)) return full || ref || undefined;
  const colon = full.lastIndexOf(":");
  if (full.includes("@") || colon < full.lastIndexOf("/")) return full;
  return `${full.slice(0, colon)}:${ref}`;
}

/** As `cosign save` marks them, or as a copied repository names them. */
function isSignature(entry: Descriptor): boolean {
  const kind = entry.annotations?.[COSIGN_KIND] ?? "";
  return kind.startsWith("dev.cosignproject.cosign/sig") || SIGNATURE_NAME.test(nameOf(entry) ?? "");
}

async function readImage(deps: LayoutDeps, entry: Descriptor): Promise<Omit<ArchiveImage, "names">> {
  const walk = new Walk(deps);
  const document = await walk.descend(entry, 0);
  if (document === undefined) throw archiveInvalid(`its index.json names ${entry.digest}, which is not in it`);
  if (walk.manifests.length === 0) throw archiveInvalid(`of index ${entry.digest} it has no manifest`);
  const { digest, size } = entry;
  return { target: { mediaType: document.mediaType, digest, size }, manifests: walk.manifests, blobs: walk.blobs };
}

class Walk {
  readonly manifests: ArchiveManifest[] = [];
  readonly blobs: ArchiveBlob[] = [];
  readonly #deps: LayoutDeps;
  readonly #seen = new Set<Digest>();

  constructor(deps: LayoutDeps) {
    this.#deps = deps;
  }

  /** Undefined where the document is missing. */
  async descend(entry: Descriptor, depth: number): Promise<ManifestDocument | undefined> {
    if (this.#seen.has(entry.digest)) return undefined;
    this.#seen.add(entry.digest);
    if (depth > MAX_DEPTH) throw archiveInvalid(`its index is nested more than ${MAX_DEPTH} deep`);
    if (this.#seen.size > MAX_DOCUMENTS) throw archiveInvalid(`it has more than ${MAX_DOCUMENTS} documents`);
    if (this.#deps.files.find(blobName(entry.digest)) === undefined) return undefined;
    const bytes = await readDocument(this.#deps.files, entry);
    const document = parseManifest(bytes, entry.digest);
    if (document.kind === "index") {
      for (const child of document.index.manifests) {
        if (isIndexType(child.mediaType) || isManifestType(child.mediaType)) await this.descend(child, depth + 1);
      }
    } else {
      await this.#manifest(entry.digest, document.manifest, entry.platform);
    }
    this.blobs.push({ digest: entry.digest, sizeBytes: bytes.length, source: { kind: "bytes", bytes } });
    return document;
  }

  async #manifest(digest: Digest, manifest: OciManifest, named: Platform | undefined): Promise<void> {
    for (const blob of [manifest.config, ...manifest.layers]) await this.#blob(digest, blob);
    this.manifests.push({ digest, manifest, platform: (await this.#platform(manifest)) ?? named });
  }

  async #blob(manifest: Digest, { digest, size }: Descriptor): Promise<void> {
    if (this.#seen.has(digest)) return;
    this.#seen.add(digest);
    const source = this.#deps.files.find(blobName(digest));
    if (source === undefined) {
      if (await this.#deps.has(digest)) return;
      throw archiveInvalid(`manifest ${manifest} needs blob ${digest}, which is not in it`);
    }
    if (source.length !== size) {
      throw archiveInvalid(`blob ${digest} is ${source.length} bytes, and manifest ${manifest} says ${size}`);
    }
    this.blobs.push({ digest, sizeBytes: size, source });
  }

  /** What the config says; undefined for an artifact. */
  async #platform(manifest: OciManifest): Promise<Platform | undefined> {
    const { digest } = manifest.config;
    if (this.#deps.files.find(blobName(digest)) === undefined) return undefined;
    const bytes = await readDocument(this.#deps.files, manifest.config, MANIFEST_LIMITS.configBytes);
    const { config } = kindOf(manifest, bytes, `the archive's manifest with config ${digest}`);
    if (config === undefined) return undefined;
    const { os, architecture, variant } = config;
    return { os, architecture, ...(variant ? { variant } : {}) };
  }
}

/** A document of the archive, hashed. */
async function readDocument(
  files: ArchiveFiles,
  { digest, size }: Descriptor,
  maxBytes: number = MANIFEST_LIMITS.manifestBytes,
): Promise<Buffer> {
  const bytes = await files.read(blobName(digest), maxBytes);
  const algorithm = digestAlgorithm(digest);
  const actual = algorithm === "sha256" ? digestOf(bytes) : toDigest(createHash(algorithm).update(bytes), algorithm);
  if (actual !== digest) throw archiveInvalid(`blob ${digest} hashes to ${actual}`);
  if (bytes.length !== size) throw archiveInvalid(`blob ${digest} is ${bytes.length} bytes, not ${size}`);
  return bytes;
}
