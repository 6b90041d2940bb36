/** One push, from an image that is here to a name in a registry: blobs first, then what refers to them, the name last. */
import { StatusError, type Digest } from "@berth/base";
import {
  formatImageReference,
  formatPlatform,
  normaliseImage,
  parseImageReference,
  platformRank,
  type Descriptor,
  type ImageReference,
  type Platform,
} from "@berth/model";
import {
  readDocuments,
  type ImageDocuments,
  type PresentDocument,
  type PresentManifest,
} from "../inspect/documents.ts";
import { blobPin } from "../pins.ts";
import type { TransferContext } from "./context.ts";
import type { PushBlob } from "./thread-protocol.ts";
import type { PushRequest, PushResult } from "./transfer.ts";
import type { TransferTracker } from "./transfer-progress.ts";

const SOURCE_LABEL = "containerd.io/distribution.source.";

interface Chosen {
  /** Children before parents; the last one gets the name. */
  readonly documents: readonly PresentDocument[];
  readonly manifests: readonly PresentManifest[];
}

export async function pushImage(
  transfer: TransferContext,
  request: PushRequest,
  progress: TransferTracker,
): Promise<PushResult> {
  const { namespace, deps, thread, signal } = transfer;
  const name = normaliseImage(request.image);
  const ref = parseImageReference(request.target ?? name);
  const { documents, manifests } = await choose(transfer, name, request.platform);
  const last = documents.at(-1)!.descriptor;
  if (ref.digest !== undefined && ref.digest !== last.digest) throw otherDigest(ref, last.digest);
  const blobs = await blobsOf(transfer, manifests, ref);
  for (const { digest, size } of blobs) progress.add(digest, size);
  progress.phase("copying");
  const registry = deps.registry(namespace);
  const job = { kind: "push", session: registry.session(ref), ref, blobs } as const;
  const { outcomes } = await thread.run(job, signal, {
    blob: ({ digest, bytes, outcome }) => {
      progress.offset(digest, bytes);
      if (outcome !== undefined) progress.state(digest, outcome === "uploaded" ? "done" : outcome);
    },
  });
  progress.phase("recording");
  for (const { descriptor, bytes } of documents) {
    const named = descriptor === last ? { ...ref, digest: ref.tag === undefined ? last.digest : undefined } : undefined;
    const at = named ?? { ...ref, tag: undefined, digest: descriptor.digest };
    await registry.pushManifest(at, { mediaType: descriptor.mediaType, bytes }, { signal });
  }
  progress.phase("done");
  const count = (wanted: string): number => outcomes.filter((outcome) => outcome === wanted).length;
  const { mediaType, digest, size } = last;
  const counts = { uploaded: count("uploaded"), mounted: count("mounted"), existing: count("exists") };
  return { target: { mediaType, digest, size }, ...counts };
}

async function choose(transfer: TransferContext, name: string, platform: Platform | undefined): Promise<Chosen> {
  const { namespace, pins, deps } = transfer;
  const { target } = deps.shared.rows.get(namespace, name).record;
  pins.add(blobPin(namespace, target.digest));
  const found = await readDocuments(deps.shared.content, namespace, name, target);
  for (const { descriptor } of found.indexes) pins.add(blobPin(namespace, descriptor.digest));
  for (const { descriptor, manifest } of found.manifests) {
    for (const { digest } of [descriptor, manifest.config, ...manifest.layers]) pins.add(blobPin(namespace, digest));
  }
  if (platform === undefined) return { documents: wholeImage(name, found), manifests: found.manifests };
  const fitting = found.manifests
    .map((manifest) => ({ manifest, rank: manifest.platform ? platformRank(manifest.platform, platform) : -1 }))
    .filter(({ rank, manifest }) => rank >= 0 && manifest.missing.length === 0)
    .sort((a, b) => b.rank - a.rank)[0]?.manifest;
  if (fitting === undefined) throw platformMissing(name, platform, found);
  return { documents: [fitting], manifests: [fitting] };
}

/** A registry refuses an index whose manifests it does not have. */
function wholeImage(name: string, { indexes, manifests, absent }: ImageDocuments): PresentDocument[] {
  const missing = manifests.flatMap((manifest) => manifest.missing)[0];
  if (missing !== undefined || absent.length > 0) {
    const what =
      missing ?? absent.map(({ digest, platform }) => (platform ? formatPlatform(platform) : digest)).join(", ");
    const text = `image ${name}: ${what} is not on this node; push one platform, or pull the image for all`;
    throw new StatusError("NOT_FOUND", text, { reason: "BLOB_MISSING" });
  }
  return [...manifests, ...indexes.toReversed()];
}

async function blobsOf(
  { namespace, deps }: TransferContext,
  manifests: readonly PresentManifest[],
  ref: ImageReference,
): Promise<PushBlob[]> {
  const { content } = deps.shared;
  const blobs = new Map<Digest, PushBlob>();
  const add = async ({ digest, size }: Descriptor): Promise<void> => {
    if (blobs.has(digest)) return;
    const { labels } = await content.info(namespace, digest);
    const sources = labels[SOURCE_LABEL + ref.registry]?.split(",") ?? [];
    const mountFrom = sources.find((source) => source !== "" && source !== ref.repository);
    const path = await content.path(namespace, digest);
    blobs.set(digest, { digest, size, path, ...(mountFrom === undefined ? {} : { mountFrom }) });
  };
  for (const { manifest } of manifests) for (const blob of [...manifest.layers, manifest.config]) await add(blob);
  return [...blobs.values()];
}

function otherDigest(ref: ImageReference, digest: Digest): StatusError {
  const text = `push to ${formatImageReference(ref)}: the image hashes to ${digest}; give a tag, or that digest`;
  return new StatusError("INVALID_ARGUMENT", text, { reason: "PUSH_DIGEST_MISMATCH" });
}

function platformMissing(name: string, wanted: Platform, { manifests }: ImageDocuments): StatusError {
  const whole = manifests.filter(({ missing, platform }) => missing.length === 0 && platform !== undefined);
  const there = whole.map(({ platform }) => formatPlatform(platform!)).join(", ");
  const text = `image ${name}: platform ${formatPlatform(wanted)} is not on this node; there is ${there || "none"}`;
  return new StatusError("NOT_FOUND", text, { reason: "PLATFORM_MISSING" });
}
