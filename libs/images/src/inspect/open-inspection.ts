/** {@link ImageInspection} over rows, content and snapshotters. */
import { StatusError, type Digest } from "@berth/base";
import {
  anyFilterMatches,
  formatPlatform,
  normaliseImage,
  parseFilter,
  parseImageReference,
  type Descriptor,
} from "@berth/model";
import { GcRows } from "../gc/rows.ts";
import { imageFieldsOf } from "../list-fields.ts";
import { layersOf } from "../pull/layers.ts";
import type { ImageRow } from "../rows.ts";
import { subjectOfRow } from "../verify/authorise.ts";
import { lastUsedAtMs, type InspectionDeps } from "./context.ts";
import { readDocuments, type ImageDocuments, type PresentManifest } from "./documents.ts";
import { historyOf } from "./history.ts";
import { itemsOfNamespace, unpackedBytes, type ImageItems } from "./image-items.ts";
import type {
  HistoryEntry,
  ImageDetails,
  ImageInspection,
  LayerDetails,
  NamespaceUsage,
  PlatformDetails,
  PruneRequest,
  PruneResult,
} from "./inspection.ts";

const SOURCE_LABEL = "containerd.io/distribution.source.";

export class Inspection implements ImageInspection {
  readonly #deps: InspectionDeps;

  constructor(deps: InspectionDeps) {
    this.#deps = deps;
  }

  async inspect(namespace: string, image: string): Promise<ImageDetails> {
    const deps = this.#deps;
    const row = deps.rows.get(namespace, normaliseImage(image));
    const { record } = row;
    const documents = await readDocuments(deps.content, namespace, record.name, record.target);
    const chosen = manifestOf(row, documents);
    const layers = await this.#layers(namespace, chosen);
    const { manifest, descriptor } = chosen;
    const blobs = [descriptor, manifest.config, ...manifest.layers];
    const sizes = layers.map((layer) => layer.unpackedBytes);
    return {
      record,
      names: this.#names(namespace, record.target.digest),
      manifest: descriptor,
      platforms: platformsOf(documents),
      config: chosen.config,
      configDigest: manifest.config.digest,
      layers,
      sources: await this.#sources(namespace, blobs, chosen.missing),
      compressedBytes: blobs.reduce((sum, { size }) => sum + size, 0),
      unpackedBytes: sizes.some((size) => size === undefined) ? undefined : sum(sizes.map((size) => size ?? 0)),
      verified: deps.verifier?.verifiedBy(subjectOfRow(row)) ?? [],
      pinned: this.#pinned(namespace).has(record.name),
      lastUsedAtMs: lastUsedAtMs(deps, row),
    };
  }

  async history(namespace: string, image: string): Promise<readonly HistoryEntry[]> {
    const row = this.#deps.rows.get(namespace, normaliseImage(image));
    const { name, target } = row.record;
    const chosen = manifestOf(row, await readDocuments(this.#deps.content, namespace, name, target));
    if (chosen.config === undefined || chosen.configBytes === undefined) {
      const text = `image "${name}" is an artifact and no container image; it has no history`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "IMAGE_IS_ARTIFACT" });
    }
    return historyOf(chosen.configBytes, await this.#layers(namespace, chosen), name);
  }

  async usage(namespace: string): Promise<NamespaceUsage> {
    const deps = this.#deps;
    const images = await itemsOfNamespace(deps, namespace);
    const owners = countOwners(images);
    const pinned = this.#pinned(namespace);
    const { blobBytes, snapshotBytes } = await this.#held(namespace);
    const referred = new Map(images.flatMap(({ items }) => [...items]));
    return {
      images: images.flatMap(({ target, rows, items }) => {
        const unique = sum([...items].map(([key, bytes]) => (owners.get(key) === 1 ? bytes : 0)));
        const sharedBytes = sum(items.values()) - unique;
        return rows.map((row) => {
          const { name } = row.record;
          const used = { pinned: pinned.has(name), lastUsedAtMs: lastUsedAtMs(deps, row) };
          return { name, digest: target, uniqueBytes: unique, sharedBytes, ...used };
        });
      }),
      blobBytes,
      snapshotBytes,
      totalBytes: blobBytes + snapshotBytes,
      reclaimableBytes: Math.max(0, blobBytes + snapshotBytes - sum(referred.values())),
    };
  }

  async prune(request: PruneRequest): Promise<PruneResult> {
    const { namespace, dryRun = false, signal } = request;
    const candidates = this.#candidates(request);
    const [used, pinned] = [await this.#used(namespace), this.#pinned(namespace)];
    const kept: { name: string; why: "used" | "pinned" }[] = [];
    const going = candidates.filter(({ record: { name } }) => {
      const why = used.has(name) ? "used" : pinned.has(name) ? "pinned" : undefined;
      if (why !== undefined) kept.push({ name, why });
      return why === undefined;
    });
    const removed = going.map(({ record }) => ({ name: record.name, digest: record.target.digest }));
    const freed = await this.#loose(namespace, new Set(removed.map(({ name }) => name)));
    if (dryRun) return { removed, kept, freedBytes: sum(freed.values()) };
    for (const { name } of removed) {
      signal?.throwIfAborted();
      await this.#deps.remove(namespace, name);
    }
    const freedBytes = removed.length === 0 ? 0 : await this.#deps.collectKeys(new Set(freed.keys()));
    return { removed, kept, freedBytes };
  }

  #candidates({ namespace, dangling, filters = [], olderThanMs }: PruneRequest): ImageRow[] {
    if (olderThanMs !== undefined && !(olderThanMs >= 0)) {
      throw StatusError.invalid([{ field: "olderThanMs", description: "is not a duration from 0 on" }]);
    }
    const parsed = filters.map(parseFilter);
    const before = this.#deps.clock.nowMs() - (olderThanMs ?? 0);
    return this.#deps.rows.list(namespace).filter((row) => {
      if (dangling === true && parseImageReference(row.record.name).tag !== undefined) return false;
      if (olderThanMs !== undefined && lastUsedAtMs(this.#deps, row) > before) return false;
      return anyFilterMatches(parsed, imageFieldsOf(row.record));
    });
  }

  /** Names of images that containers stand on or that somebody holds. */
  async #used(namespace: string): Promise<Set<string>> {
    const { references, rows } = this.#deps;
    const held = await references();
    const own = <T extends { readonly namespace: string }>(list: readonly T[] = []): T[] =>
      list.filter((one) => one.namespace === namespace);
    const names = new Set(own(held.images).map(({ name }) => name));
    for (const { image } of own(held.containers)) if (image !== "") names.add(normaliseImage(image));
    const layers = new Set(own(held.snapshots).map(({ chainId }) => chainId));
    for (const row of rows.list(namespace)) {
      if (!names.has(row.record.name) && layers.size > 0 && (await this.#standsOn(row, layers)))
        names.add(row.record.name);
    }
    return names;
  }

  async #standsOn(row: ImageRow, layers: ReadonlySet<string>): Promise<boolean> {
    const { namespace, name, target } = row.record;
    const documents = await readDocuments(this.#deps.content, namespace, name, target).catch(() => undefined);
    return (documents?.manifests ?? []).some(({ manifest, config }) => {
      if (config === undefined || config.rootfs.diff_ids.length !== manifest.layers.length) return false;
      const top = layersOf({ manifest, config }).at(-1);
      return top !== undefined && layers.has(top.chainId);
    });
  }

  /** What only these names refer to. */
  async #loose(namespace: string, names: ReadonlySet<string>): Promise<Map<string, number>> {
    const images = await itemsOfNamespace(this.#deps, namespace);
    const goes = ({ rows }: ImageItems): boolean => rows.every(({ record }) => names.has(record.name));
    const loose = new Map(images.filter(goes).flatMap(({ items }) => [...items]));
    for (const image of images) if (!goes(image)) for (const key of image.items.keys()) loose.delete(key);
    return loose;
  }

  async #held(namespace: string): Promise<{ readonly blobBytes: number; readonly snapshotBytes: number }> {
    const { content, snapshotters } = this.#deps;
    let [blobBytes, snapshotBytes] = [0, 0];
    for await (const { sizeBytes } of content.walk(namespace)) blobBytes += sizeBytes;
    for (const snapshots of snapshotters) {
      for (const chainId of snapshots.refs.names(namespace)) {
        snapshotBytes += (await unpackedBytes(snapshots, namespace, chainId)) ?? 0;
      }
    }
    return { blobBytes, snapshotBytes };
  }

  async #layers(namespace: string, { manifest, config, missing }: PresentManifest): Promise<LayerDetails[]> {
    if (config === undefined || config.rootfs.diff_ids.length !== manifest.layers.length) return [];
    const details: LayerDetails[] = [];
    for (const { descriptor, diffId, chainId } of layersOf({ manifest, config })) {
      const unpacked: string[] = [];
      let bytes: number | undefined;
      for (const snapshots of this.#deps.snapshotters) {
        const size = await unpackedBytes(snapshots, namespace, chainId);
        if (size === undefined) continue;
        unpacked.push(snapshots.snapshotter.name);
        bytes ??= size;
      }
      const present = !missing.includes(descriptor.digest);
      details.push({ descriptor, diffId, chainId, present, unpacked, unpackedBytes: bytes });
    }
    return details;
  }

  async #sources(namespace: string, blobs: readonly Descriptor[], missing: readonly Digest[]): Promise<string[]> {
    const sources = new Set<string>();
    for (const { digest } of blobs) {
      if (missing.includes(digest)) continue;
      const { labels } = await this.#deps.content.info(namespace, digest);
      for (const [key, value] of Object.entries(labels)) {
        if (!key.startsWith(SOURCE_LABEL)) continue;
        for (const repository of value.split(",")) sources.add(`${key.slice(SOURCE_LABEL.length)}/${repository}`);
      }
    }
    return [...sources].sort();
  }

  #names(namespace: string, target: Digest): string[] {
    const rows = this.#deps.rows.list(namespace);
    return rows.filter(({ record }) => record.target.digest === target).map(({ record }) => record.name);
  }

  #pinned(namespace: string): Set<string> {
    const { metadata, clock } = this.#deps;
    return new Set(new GcRows(metadata).pins(clock.nowMs(), namespace).map(({ name }) => name));
  }
}

/** The one that was chosen for this host. */
function manifestOf({ record, manifest }: ImageRow, { manifests }: ImageDocuments): PresentManifest {
  const chosen = manifests.find(({ descriptor }) => descriptor.digest === manifest);
  if (chosen !== undefined) return chosen;
  const text = `image "${record.name}" is incomplete (${manifest} is gone); pull it again`;
  throw new StatusError("NOT_FOUND", text, { reason: "IMAGE_MISSING" });
}

function platformsOf({ manifests, absent }: ImageDocuments): PlatformDetails[] {
  const here = manifests.map(({ descriptor, platform, missing }) => ({
    platform,
    descriptor,
    present: missing.length === 0,
  }));
  const away = absent.map((descriptor) => ({ platform: descriptor.platform, descriptor, present: false }));
  const name = ({ platform }: PlatformDetails): string => (platform === undefined ? "" : formatPlatform(platform));
  return [...here, ...away].sort((a, b) => (name(a) < name(b) ? -1 : 1));
}

/** By how many targets each thing is referred to. */
function countOwners(images: readonly ImageItems[]): Map<string, number> {
  const owners = new Map<string, number>();
  for (const { items } of images) for (const key of items.keys()) owners.set(key, (owners.get(key) ?? 0) + 1);
  return owners;
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
