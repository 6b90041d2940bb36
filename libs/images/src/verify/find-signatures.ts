/**
 * Looks for signatures of a digest in the registry it came from.
 *
 * Two places, as cosign writes them: the tag `sha256-<hex>.sig`, and the referrers of the digest. Nothing found here is trusted; everything is bounded and hashed. A place that is
 * empty is no error, one that cannot be asked is: an image must not pass as unsigned because a registry was away.
 */
import { digestOf, hasCode, isDigest, StatusError, type Digest } from "@berth/base";
import { isManifestType, type Descriptor, type ImageReference } from "@berth/model";
import type { Referrer, RegistryClient } from "@berth/registry";
import {
  BUNDLE_TYPE,
  objectOf,
  parseJson,
  SIGNATURE_LIMITS,
  signatureTag,
  SIMPLE_SIGNING_TYPE,
  simpleSigning,
  type SignatureMaterial,
} from "./material.ts";

const COSIGN_TYPE = "application/vnd.dev.cosign.artifact.sig";

export interface SignatureDocument {
  readonly artifactType: string;
  readonly layers: readonly Required<Pick<Descriptor, "mediaType" | "digest" | "size" | "annotations">>[];
}

export async function findSignatures(
  registry: RegistryClient,
  ref: ImageReference,
  digest: Digest,
  signal: AbortSignal,
): Promise<readonly SignatureMaterial[]> {
  const found: SignatureMaterial[] = [];
  const read = (layer: Descriptor): Promise<Uint8Array> => readBlob(registry, ref, layer, signal);
  for (const bytes of await signatureManifests(registry, ref, digest, signal)) {
    found.push(...(await readSignatures(bytes, SIGNATURE_LIMITS.count - found.length, read)));
  }
  return found;
}

/** The signatures that a manifest holds; of anything else than a signature manifest, none. */
export async function readSignatures(
  manifest: Uint8Array,
  max: number,
  read: (layer: Descriptor) => Promise<Uint8Array>,
): Promise<readonly SignatureMaterial[]> {
  const found: SignatureMaterial[] = [];
  for (const layer of parseSignatureManifest(manifest)?.layers ?? []) {
    if (found.length >= max) break;
    if (layer.mediaType === SIMPLE_SIGNING_TYPE && layer.size <= SIGNATURE_LIMITS.payloadBytes) {
      const material = simpleSigning(layer.annotations, await read(layer));
      if (material !== undefined) found.push(material);
    } else if (BUNDLE_TYPE.test(layer.mediaType) && layer.size <= SIGNATURE_LIMITS.bundleBytes) {
      found.push({ kind: "bundle", json: Buffer.from(await read(layer)).toString("utf8") });
    }
  }
  return found;
}

/** Own reading: signature manifests have annotations and types that an image's has not. */
export function parseSignatureManifest(bytes: Uint8Array): SignatureDocument | undefined {
  const document = objectOf(parseJson(bytes));
  const layers = document?.["layers"];
  if (!Array.isArray(layers)) return undefined;
  return {
    artifactType: textOf(document?.["artifactType"]) || textOf(objectOf(document?.["config"])?.["mediaType"]),
    layers: layers.slice(0, SIGNATURE_LIMITS.count).flatMap((layer: unknown) => {
      const fields = objectOf(layer);
      const digest = textOf(fields?.["digest"]);
      const size = fields?.["size"];
      if (!isDigest(digest) || !Number.isSafeInteger(size)) return [];
      const annotations = Object.entries(objectOf(fields?.["annotations"]) ?? {});
      const texts = annotations.filter((entry): entry is [string, string] => typeof entry[1] === "string");
      return [
        {
          mediaType: textOf(fields?.["mediaType"]),
          digest,
          size: size as number,
          annotations: Object.fromEntries(texts),
        },
      ];
    }),
  };
}

async function signatureManifests(
  registry: RegistryClient,
  ref: ImageReference,
  digest: Digest,
  signal: AbortSignal,
): Promise<Uint8Array[]> {
  const tagged = await manifestIfThere(registry, { ...ref, tag: signatureTag(digest), digest: undefined }, signal);
  const manifests = tagged === undefined ? [] : [tagged];
  for (const referrer of await registry.referrers(ref, digest, { signal })) {
    if (manifests.length >= SIGNATURE_LIMITS.count || !mayBeSignature(referrer)) continue;
    const bytes = await manifestIfThere(registry, { ...ref, tag: undefined, digest: referrer.digest }, signal);
    if (bytes !== undefined) manifests.push(bytes);
  }
  return manifests;
}

/** Those without a type are looked at. */
function mayBeSignature({ mediaType, artifactType = "" }: Referrer): boolean {
  if (!isManifestType(mediaType)) return false;
  return artifactType === "" || BUNDLE_TYPE.test(artifactType) || artifactType.startsWith(COSIGN_TYPE);
}

async function manifestIfThere(
  registry: RegistryClient,
  ref: ImageReference,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  try {
    return (await registry.manifest(ref, { signal })).bytes;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND", "INVALID_ARGUMENT")) return undefined;
    throw error;
  }
}

/** A small blob, hashed. */
async function readBlob(
  registry: RegistryClient,
  ref: ImageReference,
  { digest, size }: Descriptor,
  signal: AbortSignal,
): Promise<Uint8Array> {
  await using stream = await registry.blob(ref, digest, { signal });
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream.body) {
    length += chunk.length;
    if (length > size) break;
    chunks.push(Buffer.from(chunk));
  }
  const bytes = Buffer.concat(chunks);
  if (length === size && digestOf(bytes) === digest) return bytes;
  throw new StatusError("DATA_LOSS", `signature ${digest} of registry ${ref.registry}: it sent other bytes`, {
    reason: "SIGNATURE_DIGEST_MISMATCH",
  });
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
