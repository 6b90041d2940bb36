/**
 * What images are made of on this node, as things with sizes: blobs and unpacked layers, by the keys of pins.ts, so that
 * what several images share is one thing.
 */
import { hasCode, type Digest } from "@berth/base";
import type { NamespacedSnapshots } from "@berth/snapshots";
import { layersOf } from "../pull/layers.ts";
import { blobPin, snapshotPin } from "../pins.ts";
import type { ImageRow } from "../rows.ts";
import type { InspectionDeps } from "./context.ts";
import { readDocuments, type ImageDocuments, type PresentManifest } from "./documents.ts";

export interface ImageItems {
  readonly target: Digest;
  readonly rows: readonly ImageRow[];
  /** Sizes by key. */
  readonly items: ReadonlyMap<string, number>;
}

/** Of every target of the namespace, with all names for it. */
export async function itemsOfNamespace(deps: InspectionDeps, namespace: string): Promise<readonly ImageItems[]> {
  const byTarget = new Map<Digest, ImageRow[]>();
  for (const row of deps.rows.list(namespace)) {
    const { digest } = row.record.target;
    byTarget.set(digest, [...(byTarget.get(digest) ?? []), row]);
  }
  const all: ImageItems[] = [];
  for (const [target, rows] of byTarget) all.push({ target, rows, items: await itemsOf(deps, rows[0]!) });
  return all;
}

async function itemsOf(deps: InspectionDeps, { record }: ImageRow): Promise<Map<string, number>> {
  const { namespace, name, target } = record;
  let documents: ImageDocuments;
  try {
    documents = await readDocuments(deps.content, namespace, name, target);
  } catch (error) {
    // A broken image has nothing; the rest is shown all the same.
    if (hasCode(error, "NOT_FOUND", "INVALID_ARGUMENT")) return new Map();
    throw error;
  }
  const items = new Map<string, number>();
  for (const { descriptor } of documents.indexes) items.set(blobPin(namespace, descriptor.digest), descriptor.size);
  for (const present of documents.manifests) {
    items.set(blobPin(namespace, present.descriptor.digest), present.descriptor.size);
    for (const { digest, size } of [present.manifest.config, ...present.manifest.layers]) {
      if (!present.missing.includes(digest)) items.set(blobPin(namespace, digest), size);
    }
    await addLayers(deps, namespace, present, items);
  }
  return items;
}

async function addLayers(
  { snapshotters }: InspectionDeps,
  namespace: string,
  { manifest, config }: PresentManifest,
  items: Map<string, number>,
): Promise<void> {
  if (config === undefined || config.rootfs.diff_ids.length !== manifest.layers.length) return;
  for (const { chainId } of layersOf({ manifest, config })) {
    for (const snapshots of snapshotters) {
      const bytes = await unpackedBytes(snapshots, namespace, chainId);
      if (bytes !== undefined) items.set(snapshotPin(namespace, snapshots.snapshotter.name, chainId), bytes);
    }
  }
}

/** Of one layer; undefined where the namespace does not have it. */
export async function unpackedBytes(
  { refs, snapshotter }: NamespacedSnapshots,
  namespace: string,
  chainId: string,
): Promise<number | undefined> {
  if (refs.find(namespace, chainId) === undefined) return undefined;
  try {
    return (await snapshotter.usage(chainId)).sizeBytes;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined;
    throw error;
  }
}
