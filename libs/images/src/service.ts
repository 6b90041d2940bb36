/**
 * The image service, answering: names bound to digests, one pull path, collection. See images.ts for the contract, and compose.ts
 * for what it is made of.
 */
import { mkdir, readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { unmountAll } from "@berth/linux";
import {
  anyFilterMatches,
  formatImageReference,
  formatPlatform,
  hostPlatform,
  normaliseImage,
  parseFilter,
  parseImageReference,
} from "@berth/model";
import { composeImages, type ImageParts, type ImagesConfig, type ImagesDeps } from "./compose.ts";
import { describeImage } from "./describe.ts";
import type { Collection } from "./gc/collection.ts";
import type { ImagePinStore } from "./gc/image-pins.ts";
import { imageKey } from "./gc/keys.ts";
import { forgetImage } from "./gc/rows.ts";
import type { ImageUses } from "./gc/uses.ts";
import { diskFull, giveBack } from "./give-back.ts";
import type { Collected, ImageRecord, Images, PullProgress, PullRequest, TagRequest, UnpackedImage } from "./images.ts";
import { Inspection } from "./inspect/open-inspection.ts";
import { LeaseRecorder } from "./leases/recorder.ts";
import type { LeaseStore } from "./leases/store.ts";
import { imageFieldsOf } from "./list-fields.ts";
import { isDiskFull } from "./pull/blobs.ts";
import type { PullInput, Shared } from "./pull/context.ts";
import { JoinedRuns } from "./pull/joined.ts";
import type { LayerSnapshots } from "./pull/layer-snapshots.ts";
import { NamespacedLayers } from "./pull/namespaced-layers.ts";
import { ProgressTracker } from "./pull/progress.ts";
import { pullImage } from "./pull/pull.ts";
import { deleteImage, tagImage, type ImageRow } from "./rows.ts";
import type { TransferDeps } from "./transfer/context.ts";
import { Transfers } from "./transfer/transfers.ts";
import { authorise } from "./verify/authorise.ts";
import { VerificationRows } from "./verify/rows.ts";

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
  return new ImageService(deps, composeImages(deps, config), snapshotters);
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
  readonly #parts: ImageParts;
  readonly #shared: Shared;
  readonly #pulls = new JoinedRuns<UnpackedImage, PullProgress>();
  #collecting: Promise<Collected> | undefined;
  readonly #closing = new AbortController();
  #closed = false;

  constructor(deps: ImagesDeps, parts: ImageParts, snapshotters: readonly LayerSnapshots[]) {
    this.#deps = deps;
    this.#parts = parts;
    this.#shared = parts.shared;
    this.#uses = parts.uses;
    this.#snapshotters = snapshotters;
    this.gc = parts.gc;
    this.leases = parts.leases;
    this.pins = parts.pins;
    this.transfer = new Transfers(this.#transferDeps());
    this.inspection = new Inspection({
      ...parts.shared,
      snapshotters: deps.snapshotters,
      verifier: deps.verifier,
      references: parts.references,
      notedAtMs: (namespace, name) => parts.uses.notedAtMs(namespace, name),
      remove: (namespace, name) => this.remove(namespace, name),
      collectKeys: async (keys) => (await parts.gc.runFor(keys)).freedBytes,
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
    const found = await describeImage(this.#shared.content, row, snapshots.name);
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
      return await describeImage(this.#shared.content, shared.rows.get(namespace, image), pull.snapshots.name);
    } catch (error) {
      pull.progress.phase("failed");
      if (!isDiskFull(error)) throw error;
      await giveBack(this.#parts, namespace, pull.pins, `the pull of ${image}`);
      throw diskFull(error, image);
    }
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
      giveBack: (namespace, pins, what) => giveBack(this.#parts, namespace, pins, what),
      closing: this.#closing.signal,
    };
  }

  #recorder(namespace: string, lease: string | undefined): LeaseRecorder | undefined {
    return lease === undefined ? undefined : new LeaseRecorder(this.leases, namespace, lease, this.#shared.logger);
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
