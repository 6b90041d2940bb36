/** A node's stores with things put into them directly, for tests of collection: all real, without a registry. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { digestOf, type Clock, type Digest } from "@berth/base";
import { contentMigrations, openContentStore, type ContentStore, type FileContentStore } from "@berth/content";
import { openMetadata } from "@berth/metadata";
import { MEDIA_TYPES } from "@berth/model";
import {
  openNamespacedSnapshots,
  openOverlayfs,
  snapshotMigrations,
  writableDirectory,
  type NamespacedSnapshots,
} from "@berth/snapshots";
import {
  imageMigrations,
  openImages,
  watchChanges,
  type Images,
  type ImagesDeps,
  type WatchedMetadata,
} from "../index.ts";
import type { GcConfig } from "../gc/gc.ts";
import { upsertImage } from "../rows.ts";

export interface GcLab extends AsyncDisposable {
  readonly root: string;
  readonly metadata: WatchedMetadata;
  readonly content: FileContentStore;
  readonly snapshots: NamespacedSnapshots;
  readonly images: Images;
  /** Writes a blob and gives its digest. */
  blob(namespace: string, data: string | Uint8Array, labels?: Record<string, string>): Promise<Digest>;
  /** Commits a layer of one file, as a pull does. */
  layer(namespace: string, chainId: string, parent: string, sizeBytes?: number): Promise<void>;
  /** A whole image, its layers unpacked: `sizeBytes` of random data in each layer's blob and snapshot. */
  image(namespace: string, name: string, options?: LabImageOptions): Promise<LabImage>;
  contents(namespace: string): Promise<string[]>;
  layers(namespace: string): Promise<string[]>;
}

export interface LabImageOptions {
  readonly layers?: number;
  readonly sizeBytes?: number;
  /** Layers to begin with, of another image. */
  readonly base?: LabImage;
  readonly labels?: Record<string, string>;
  readonly usedAtMs?: number;
}

export interface LabImage {
  readonly name: string;
  readonly manifest: Digest;
  readonly config: Digest;
  readonly blobs: readonly Digest[];
  readonly diffIds: readonly Digest[];
  readonly chain: readonly string[];
  /** Manifest, config and layers. */
  readonly all: readonly string[];
}

export interface GcLabOptions {
  readonly root?: string;
  readonly gc?: GcConfig;
  readonly references?: ImagesDeps["references"];
  readonly disk?: ImagesDeps["disk"];
  readonly clock?: Clock;
  readonly ingestTtlMs?: number;
  /** Called before the collector deletes a blob. */
  readonly onDelete?: () => Promise<void>;
}

export async function openGcLab(options: GcLabOptions = {}): Promise<GcLab> {
  const root = options.root ?? (await mkdtemp(join(inMemory(), "berth-gc-")));
  const clock = options.clock === undefined ? {} : { clock: options.clock };
  const migrations = [...contentMigrations, ...snapshotMigrations, ...imageMigrations];
  const opened = await openMetadata({ path: join(root, "metadata.db"), migrations });
  const metadata = watchChanges(opened);
  const ttl = options.ingestTtlMs === undefined ? {} : { ingestTtlMs: options.ingestTtlMs };
  const content = await openContentStore(
    { root: join(root, "content"), metadata, ...clock },
    { syncPolicy: "none", ...ttl },
  );
  await content.recover();
  const overlayfs = await openOverlayfs({ metadata }, { root: join(root, "overlayfs") });
  const snapshots = await openNamespacedSnapshots({ snapshotter: overlayfs, metadata });
  const images = await openImages(
    {
      metadata,
      content: options.onDelete === undefined ? content : tellingDeletes(content, options.onDelete),
      snapshotters: [snapshots],
      registry: () => {
        throw new Error("there is no registry here");
      },
      scratch: join(root, "scratch"),
      ...clock,
      ...(options.references === undefined ? {} : { references: options.references }),
      ...(options.disk === undefined ? {} : { disk: options.disk }),
    },
    options.gc === undefined ? {} : { gc: options.gc },
  );
  const lab: GcLab = {
    root,
    metadata,
    content,
    snapshots,
    images,
    blob: (namespace, data, labels) => writeBlob(content, namespace, data, labels),
    layer: (namespace, chainId, parent, sizeBytes) =>
      commitLayer(snapshots, namespace, chainId, parent, sizeBytes ?? 16),
    image: (namespace, name, given) => makeImage(lab, namespace, name, given ?? {}),
    async contents(namespace) {
      const digests: string[] = [];
      for await (const { digest } of content.walk(namespace)) digests.push(digest);
      return digests;
    },
    async layers(namespace) {
      const keys: string[] = [];
      for await (const { key } of snapshots.namespace(namespace).walk()) keys.push(key);
      return keys;
    },
    async [Symbol.asyncDispose]() {
      await images[Symbol.asyncDispose]();
      await overlayfs[Symbol.asyncDispose]();
      await content[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
      if (options.root === undefined) await rm(root, { recursive: true, force: true });
    },
  };
  return lab;
}

/** Where fsyncs cost nothing, if there is such a place: none of these tests is about power cuts. */
export function inMemory(): string {
  return existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
}

function tellingDeletes(content: FileContentStore, onDelete: () => Promise<void>): ContentStore {
  const remove = async (namespace: string, digest: Digest): Promise<void> => {
    await onDelete();
    await content.delete(namespace, digest);
  };
  return new Proxy(content, {
    get(target, property) {
      if (property === "delete") return remove;
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

async function writeBlob(
  content: ContentStore,
  namespace: string,
  data: string | Uint8Array,
  labels: Record<string, string> = {},
): Promise<Digest> {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  const digest = digestOf(bytes);
  await using writer = await content.writer(namespace, { ref: `lab-${digest}` });
  await writer.truncate(0);
  await writer.write(bytes);
  await writer.commit({ digest, labels, computed: { digest, sizeBytes: bytes.length } });
  return digest;
}

async function commitLayer(
  snapshots: NamespacedSnapshots,
  namespace: string,
  chainId: string,
  parent: string,
  sizeBytes: number,
): Promise<void> {
  const view = snapshots.namespace(namespace);
  const key = `extract-${chainId}`;
  const mounts = await view.prepare(key, parent, { labels: { "berth.dev/extract": "true" } });
  await writeFile(join(writableDirectory(mounts)!, `f-${chainId.slice(-8)}`), randomBytes(sizeBytes));
  await view.commit(chainId, key, { verified: true, usage: { sizeBytes, inodes: 2 } });
}

async function makeImage(
  lab: GcLab,
  namespace: string,
  name: string,
  { layers = 1, sizeBytes = 64, base, labels, usedAtMs }: LabImageOptions,
): Promise<LabImage> {
  const blobs = [...(base?.blobs ?? [])];
  const diffIds = [...(base?.diffIds ?? [])];
  const chain = [...(base?.chain ?? [])];
  for (let layer = 0; layer < layers; layer += 1) {
    const data = randomBytes(sizeBytes);
    blobs.push(await lab.blob(namespace, data));
    diffIds.push(digestOf(`diff of ${digestOf(data)}`));
    const chainId: string = chain.length === 0 ? diffIds.at(-1)! : digestOf(`${chain.at(-1)!} ${diffIds.at(-1)!}`);
    await lab.layer(namespace, chainId, chain.at(-1) ?? "", sizeBytes);
    chain.push(chainId);
  }
  const config = await lab.blob(namespace, configOf(diffIds));
  const bytes = Buffer.from(manifestOf(config, blobs));
  const manifest = await lab.blob(namespace, bytes);
  const target = { mediaType: MEDIA_TYPES.ociManifest, digest: manifest, size: bytes.length };
  await lab.metadata.transact([
    upsertImage(namespace, name, target, manifest, Date.now()),
    ...(labels === undefined ? [] : [labelImage(namespace, name, labels)]),
    ...(usedAtMs === undefined
      ? []
      : [{ sql: "INSERT INTO image_uses VALUES (?, ?, ?)", params: [namespace, name, usedAtMs] }]),
  ]);
  return { name, manifest, config, blobs, diffIds, chain, all: [manifest, config, ...blobs] };
}

function labelImage(namespace: string, name: string, labels: Record<string, string>) {
  return {
    sql: "UPDATE images SET labels = ? WHERE namespace = ? AND name = ?",
    params: [JSON.stringify(labels), namespace, name],
  };
}

export function configOf(diffIds: readonly string[]): string {
  return JSON.stringify({ os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: diffIds } });
}

export function manifestOf(config: string, blobs: readonly string[]): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, digest: config, size: 100 },
    layers: blobs.map((digest) => ({ mediaType: MEDIA_TYPES.ociLayerGzip, digest, size: 100 })),
  });
}
