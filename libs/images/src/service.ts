/** The image service: names bound to digests, one pull path, collection. See images.ts for the contract. */
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { availableParallelism } from "node:os";
import {
  hasCode,
  KeyedLock,
  silentLogger,
  StatusError,
  systemClock,
  type Clock,
  type Digest,
  type Logger,
} from "@berth/base";
import type { ContentStore } from "@berth/content";
import { unmountAll } from "@berth/linux";
import type { Metadata } from "@berth/metadata";
import {
  anyFilterMatches,
  formatImageReference,
  formatPlatform,
  hostPlatform,
  MANIFEST_LIMITS,
  normaliseImage,
  parseFilter,
  parseImageReference,
  parseManifest,
  type OciImageConfig,
} from "@berth/model";
import type { RegistryClient } from "@berth/registry";
import type { NamespacedSnapshots } from "@berth/snapshots";
import type { DevicePolicy } from "./archive/apply.ts";
import { defaultArchiveLimits, type ArchiveLimits } from "./archive/entry.ts";
import { watchChanges } from "./gc/changes.ts";
import { Collection } from "./gc/collection.ts";
import type { GcConfig } from "./gc/gc.ts";
import { ImagePinStore } from "./gc/image-pins.ts";
import { imageKey } from "./gc/keys.ts";
import type { DiskSpace } from "./gc/pressure.ts";
import type { ImageReferences } from "./gc/references.ts";
import { forgetImage } from "./gc/rows.ts";
import { ImageUses } from "./gc/uses.ts";
import type { Collected, ImageRecord, Images, PullProgress, PullRequest, TagRequest, UnpackedImage } from "./images.ts";
import { LeaseRecorder } from "./leases/recorder.ts";
import { LeaseStore } from "./leases/store.ts";
import { blobPin, Pins, type PinSet } from "./pins.ts";
import { ingestRef, isDiskFull } from "./pull/blobs.ts";
import type { PullInput, Shared } from "./pull/context.ts";
import type { DecompressConfig } from "./pull/decompress.ts";
import { JoinedRuns } from "./pull/joined.ts";
import type { LayerSnapshots } from "./pull/layer-snapshots.ts";
import { NamespacedLayers } from "./pull/namespaced-layers.ts";
import { LayerWorkers } from "./pull/layer-workers.ts";
import { ProgressTracker } from "./pull/progress.ts";
import { kindOf } from "./pull/artifact.ts";
import { layersOf } from "./pull/layers.ts";
import { pullImage } from "./pull/pull.ts";
import { defaultRanges, type RangeConfig } from "./pull/ranges.ts";
import { DEFAULT_TWO_THREADS_BYTES } from "./pull/two-threads.ts";
import { defaultSlots, LayerSlots, type SlotsConfig } from "./pull/slots.ts";
import { imageFieldsOf } from "./list-fields.ts";
import { Inspection } from "./inspect/open-inspection.ts";
import { deleteImage, ImageRows, tagImage, type ImageRow } from "./rows.ts";
import type { TransferDeps } from "./transfer/context.ts";
import { Transfers } from "./transfer/transfers.ts";
import { authorise } from "./verify/authorise.ts";
import { VerificationRows } from "./verify/rows.ts";
import type { PolicyVerifier } from "./verify/verifier.ts";

export interface ImagesDeps {
  /** Opened with `imageMigrations` among its migrations. Where others write to it too, it and they get one `watchChanges`. */
  readonly metadata: Metadata;
  readonly content: ContentStore;
  /** Each opened once per process. */
  readonly snapshotters: readonly NamespacedSnapshots[];
  /** A client with this namespace's credentials; stays the caller's. */
  readonly registry: (namespace: string) => RegistryClient;
  /** A folder of this service alone, for mount points. */
  readonly scratch: string;
  /** Asked at each collection. */
  readonly references?: () => Promise<ImageReferences>;
  /** Of the file system that content and snapshots are on; needed for watermarks. */
  readonly disk?: () => DiskSpace;
  /** Asked at every pull, import and start; absent, every image may be used. */
  readonly verifier?: PolicyVerifier;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

export interface ImagesConfig {
  /** How many layers are worked on at once, and how they are shared out; see pull/slots.ts. */
  readonly slots?: Partial<SlotsConfig>;
  /** How long an idle worker thread is kept. Default 30 s. */
  readonly workerIdleMs?: number;
  readonly limits?: Partial<ArchiveLimits>;
  /** When large layers are fetched by several streams at once; see pull/ranges.ts. */
  readonly ranges?: Partial<RangeConfig>;
  /** From this size on, two threads may work on one layer. Default 8 MiB; see pull/two-threads.ts. */
  readonly twoThreadsBytes?: number;
  /** Stream processors for layers of other media types, and programs that are not to be used. */
  readonly decompress?: Omit<DecompressConfig, "mediaType">;
  /** What is done with device nodes in layers. Default: they are made. */
  readonly devices?: DevicePolicy;
  readonly gc?: GcConfig;
}

/** Opens the service and undoes what a crash left half-done. */
export async function openImages(deps: ImagesDeps, config: ImagesConfig = {}): Promise<Images> {
  await mkdir(deps.scratch, { recursive: true, mode: 0o700 });
  for (const name of await readdir(deps.scratch)) {
    const path = join(deps.scratch, name);
    unmountAll(path, { detach: true });
    await rmdir(path).catch((error: unknown) => deps.logger?.warn({ error, path }, "a left mount point stays"));
  }
  const snapshotters = deps.snapshotters.map((snapshots) => new NamespacedLayers(snapshots));
  for (const snapshots of snapshotters) await snapshots.sweepExtractions();
  return new ImageService(deps, snapshotters, config);
}

class ImageService implements Images {
  readonly gc: Collection;
  readonly leases: LeaseStore;
  readonly pins: ImagePinStore;
  readonly transfer: Transfers;
  readonly inspection: Inspection;
  readonly #uses: ImageUses;
  readonly #deps: ImagesDeps;
  readonly #snapshotters: readonly LayerSnapshots[];
  readonly #shared: Shared;
  readonly #pulls = new JoinedRuns<UnpackedImage, PullProgress>();
  #collecting: Promise<Collected> | undefined;
  readonly #closing = new AbortController();
  #closed = false;

  constructor(deps: ImagesDeps, snapshotters: readonly LayerSnapshots[], config: ImagesConfig) {
    this.#deps = deps;
    this.#snapshotters = snapshotters;
    const metadata = watchChanges(deps.metadata);
    this.#shared = {
      metadata,
      rows: new ImageRows(metadata),
      content: deps.content,
      workers: new LayerWorkers({ idleMs: config.workerIdleMs ?? 30_000, graceMs: 5_000 }),
      locks: new KeyedLock(),
      pins: new Pins(),
      slots: new LayerSlots({ ...defaultSlots(availableParallelism()), ...config.slots }),
      limits: { ...defaultArchiveLimits, ...config.limits },
      ranges: { ...defaultRanges, ...config.ranges },
      twoThreadsBytes: config.twoThreadsBytes ?? DEFAULT_TWO_THREADS_BYTES,
      decompress: config.decompress ?? {},
      devices: config.devices ?? "allow",
      verify: deps.verifier?.check,
      scratch: deps.scratch,
      clock: deps.clock ?? systemClock,
      logger: deps.logger ?? silentLogger,
    };
    const { clock, logger, pins, locks } = this.#shared;
    const collect = (): Promise<unknown> => this.gc.run({ trigger: "lease-delete" });
    this.leases = new LeaseStore({ metadata, content: deps.content, clock, logger, collect });
    this.pins = new ImagePinStore(metadata, clock);
    this.#uses = new ImageUses(metadata, clock, logger);
    const references = deps.references ?? (async () => ({ snapshots: [] }));
    const parts = { metadata, pins, locks, clock, logger, references, leases: this.leases, uses: this.#uses };
    this.gc = new Collection({ ...deps, ...parts }, config.gc ?? {});
    this.transfer = new Transfers(this.#transferDeps());
    this.inspection = new Inspection({
      ...this.#shared,
      snapshotters: deps.snapshotters,
      verifier: deps.verifier,
      references,
      notedAtMs: (namespace, name) => this.#uses.notedAtMs(namespace, name),
      remove: (namespace, name) => this.remove(namespace, name),
      collectKeys: async (keys) => (await this.gc.runFor(keys)).freedBytes,
    });
  }

  async pull(request: PullRequest): Promise<UnpackedImage> {
    this.#checkOpen();
    const ref = parseImageReference(request.image);
    const image = formatImageReference(ref);
    const platform = request.platform ?? hostPlatform;
    const snapshots = this.#snapshotter(request.snapshotter);
    const { signal, onProgress, namespace, unpack = true, lease } = request;
    if (lease !== undefined) await this.leases.assertLive(namespace, lease);
    const key = [namespace, image, snapshots.name, formatPlatform(platform), unpack, lease ?? ""].join(" ");
    return await this.#pulls.join(key, { signal, onProgress }, async (running, tell) => {
      await using held = this.#recorder(namespace, lease);
      using pins = this.#shared.pins.set(held?.addPin);
      pins.add(imageKey(namespace, image));
      using progress = new ProgressTracker(namespace, image, tell, () => this.#shared.clock.monotonicMs());
      const registry = this.#deps.registry(namespace);
      const shared = this.#shared;
      return await this.#run({
        shared,
        namespace,
        ref,
        image,
        platform,
        snapshots,
        registry,
        signal: running,
        pins,
        progress,
        unpack,
        lease,
      });
    });
  }

  async unpacked(namespace: string, image: string, snapshotter: string): Promise<UnpackedImage> {
    const row = this.#shared.rows.get(namespace, normaliseImage(image));
    this.#uses.note(namespace, row.record.name);
    const snapshots = this.#snapshotter(snapshotter);
    const found = await this.#describe(row, snapshots.name);
    if (found.artifactType !== undefined) {
      const text = `image "${row.record.name}" is an artifact (${found.artifactType}) and no container image; nothing can be run from it`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "IMAGE_IS_ARTIFACT" });
    }
    if (found.chainId === "" || (await snapshots.has(namespace, found.chainId))) return found;
    throw new StatusError("NOT_FOUND", `image "${row.record.name}" is not unpacked with ${snapshotter}; pull it`, {
      reason: "IMAGE_MISSING",
    });
  }

  async get(namespace: string, image: string): Promise<ImageRecord> {
    return this.#shared.rows.get(namespace, normaliseImage(image)).record;
  }

  async list(namespace: string, filters: readonly string[] = []): Promise<readonly ImageRecord[]> {
    const parsed = filters.map(parseFilter);
    const records = this.#shared.rows.list(namespace).map(({ record }) => record);
    return records.filter((record) => anyFilterMatches(parsed, imageFieldsOf(record)));
  }

  async tag({ namespace, image, tag, signal }: TagRequest): Promise<ImageRecord> {
    this.#checkOpen();
    const row = this.#shared.rows.get(namespace, normaliseImage(image));
    const name = normaliseImage(tag);
    await this.#authorise({ ...row, record: { ...row.record, name } }, signal);
    await this.#shared.metadata.transact([tagImage(row.record, name, this.#shared.clock.nowMs())]);
    return this.#shared.rows.get(namespace, name).record;
  }

  async authorise(namespace: string, image: string, signal?: AbortSignal): Promise<void> {
    await this.#authorise(this.#shared.rows.get(namespace, normaliseImage(image)), signal);
  }

  async remove(namespace: string, image: string): Promise<void> {
    this.#checkOpen();
    const name = normaliseImage(image);
    await this.#shared.metadata.transact([deleteImage(namespace, name), ...forgetImage(namespace, name)]);
  }

  collect(): Promise<Collected> {
    this.#checkOpen();
    const collected = async (): Promise<Collected> => {
      const { blobs, snapshots, freedBytes } = await this.gc.run();
      return { blobs, snapshots, freedBytes };
    };
    this.#collecting ??= collected().finally(() => (this.#collecting = undefined));
    return this.#collecting;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#closing.abort(new StatusError("CANCELLED", "image service is closing"));
    await this.#pulls.abortAll(new StatusError("CANCELLED", "image service is closing"));
    await this.transfer[Symbol.asyncDispose]();
    await this.gc[Symbol.asyncDispose]();
    await this.#uses.flush();
    await this.#shared.workers[Symbol.asyncDispose]();
  }

  async #authorise(row: ImageRow, signal: AbortSignal = this.#closing.signal): Promise<void> {
    const { verifier, content, registry } = this.#deps;
    await authorise({ verifier, content, registry }, row, signal);
  }

  async #run(pull: PullInput): Promise<UnpackedImage> {
    const { shared, namespace, image } = pull;
    try {
      await pullImage(pull);
      this.#uses.note(namespace, image);
      return await this.#describe(shared.rows.get(namespace, image), pull.snapshots.name);
    } catch (error) {
      pull.progress.phase("failed");
      if (!isDiskFull(error)) throw error;
      await this.#giveBack(namespace, pull.pins, `the pull of ${image}`);
      throw diskFull(error, image);
    }
  }

  /** Gives back the space that something took before it failed. */
  async #giveBack(namespace: string, pins: PinSet, what: string): Promise<void> {
    const keys = pins.keys();
    pins[Symbol.dispose]();
    await this.#dropIngests(namespace, keys);
    await this.gc.runFor(keys).catch((error: unknown) => {
      this.#shared.logger.warn({ error }, `undoing ${what} failed; the next collection tries again`);
    });
  }

  #transferDeps(): TransferDeps {
    return {
      shared: this.#shared,
      registry: this.#deps.registry,
      snapshotter: (name) => this.#snapshotter(name),
      anySnapshotter: () => this.#snapshotters[0] ?? this.#snapshotter("overlayfs"),
      signatures: new VerificationRows(this.#shared.metadata),
      hold: async (namespace, lease) => {
        this.#checkOpen();
        if (lease !== undefined) await this.leases.assertLive(namespace, lease);
        const held = this.#recorder(namespace, lease);
        const pins = this.#shared.pins.set(held?.addPin);
        const dispose = async (): Promise<void> => {
          pins[Symbol.dispose]();
          await held?.[Symbol.asyncDispose]();
        };
        return { pins, [Symbol.asyncDispose]: dispose };
      },
      giveBack: (namespace, pins, what) => this.#giveBack(namespace, pins, what),
      closing: this.#closing.signal,
    };
  }

  /** Half-fetched layers of a pull that no other pull is about to resume. */
  async #dropIngests(namespace: string, keys: ReadonlySet<string>): Promise<void> {
    const { content, locks, pins, logger } = this.#shared;
    for (const { ref, expected } of await content.listStatuses(namespace)) {
      if (expected === undefined || ref !== ingestRef("layer", expected)) continue;
      const key = blobPin(namespace, expected);
      if (!keys.has(key)) continue;
      await locks
        .run(`blob ${expected}`, async () => {
          if (!pins.isPinned(key)) await content.abort(namespace, ref);
        })
        .catch((error: unknown) => logger.warn({ error, ref }, "dropping an ingest failed; it will expire"));
    }
  }

  #recorder(namespace: string, lease: string | undefined): LeaseRecorder | undefined {
    return lease === undefined ? undefined : new LeaseRecorder(this.leases, namespace, lease, this.#shared.logger);
  }

  /** What the stored manifest and config say. */
  async #describe({ record, manifest }: ImageRow, snapshotter: string): Promise<UnpackedImage> {
    const { namespace, name } = record;
    const document = parseManifest(await this.#read(namespace, name, manifest, MANIFEST_LIMITS.manifestBytes), name);
    if (document.kind !== "manifest") {
      throw new StatusError("DATA_LOSS", `image "${name}": its recorded manifest is an index; pull it again`);
    }
    const { config: descriptor, layers } = document.manifest;
    const bytes = await this.#read(namespace, name, descriptor.digest, MANIFEST_LIMITS.configBytes);
    const { config, artifactType } = kindOf(document.manifest, bytes, name);
    const sizeBytes = layers.reduce((sum, layer) => sum + layer.size, descriptor.size);
    const common = { image: record, manifest, configDigest: descriptor.digest, snapshotter, sizeBytes };
    if (config === undefined) return { ...common, config: NO_CONFIG, chainId: "", artifactType };
    const chainId = layersOf({ manifest: document.manifest, config }).at(-1)?.chainId ?? "";
    return { ...common, config, chainId };
  }

  async #read(namespace: string, name: string, digest: Digest, maxBytes: number): Promise<Uint8Array> {
    try {
      return await this.#shared.content.readAll(namespace, digest, maxBytes);
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
      throw new StatusError("NOT_FOUND", `image "${name}" is incomplete (${digest} is gone); pull it again`, {
        reason: "IMAGE_MISSING",
        cause: error,
      });
    }
  }

  #snapshotter(name: string): LayerSnapshots {
    const found = this.#snapshotters.find((snapshots) => snapshots.name === name);
    if (found !== undefined) return found;
    const names = this.#snapshotters.map((snapshots) => snapshots.name).join(", ");
    throw new StatusError("INVALID_ARGUMENT", `snapshotter "${name}" is not usable here; there is ${names || "none"}`, {
      reason: "SNAPSHOTTER_MISSING",
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new StatusError("UNAVAILABLE", "image service is closed", { reason: "IMAGES_CLOSED" });
  }
}

/** What an artifact says of how to run it. */
const NO_CONFIG: OciImageConfig = { os: "", architecture: "", rootfs: { type: "layers", diff_ids: [] } };

/** One reason for what several libraries say in their own ways. */
function diskFull(error: StatusError, image: string): StatusError {
  if (error.reason === "DISK_FULL") return error;
  return new StatusError("RESOURCE_EXHAUSTED", `image ${image}: disk full: ${error.message}`, {
    reason: "DISK_FULL",
    cause: error,
  });
}
