/**
 * One layer of a pull: its blob fetched, its snapshot there.
 *
 * Layers are extracted in the order of the chain, each over the mounted layers below it. The first one that is missing is
 * extracted while it streams; the blobs of later ones are fetched meanwhile and extracted when their turn comes. To extract
 * layers apart from each other and rebase them at commit (`capabilities.rebase`), replace {@link ensureSnapshot}'s use of
 * the parent; nothing else knows the order.
 *
 * Invariants:
 *  - A layer that is there is used for another image only if that image's blob was seen, here, to decompress to the diff id
 *    its config claims. Otherwise a forged config would open another tenant's layers (D7).
 *  - A snapshot is committed only after digest and diff id matched (A3); a failed one leaves neither snapshot nor mount.
 */
import { mkdtemp, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { StatusError, throwIfAborted, uuidv7, type Digest } from "@berth/base";
import { unmountAll } from "@berth/linux";
import type { Descriptor } from "@berth/model";
import { snapshotPin } from "../pins.ts";
import { insertDiff } from "../rows.ts";
import { adopt, ingestLayer, layerSubject } from "./blobs.ts";
import type { PullContext } from "./context.ts";
import type { JobResult, LayerJob, LayerSource, UnpackTarget } from "./layer-job.ts";

export interface Layer {
  readonly index: number;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly chainId: Digest;
  /** Chain id of what is below; empty for the base. */
  readonly parent: string;
}

/** Fetches the blob if the namespace lacks it. */
export async function ensureBlob(pull: PullContext, layer: Layer): Promise<void> {
  const { locks, downloads, workers } = pull.shared;
  const { descriptor, index } = layer;
  const outcome = await locks.run(
    `blob ${descriptor.digest}`,
    async () => {
      if (await adopt(pull, descriptor.digest)) return "exists";
      using _ = await downloads.acquire(pull.signal);
      pull.progress.state(index, "downloading");
      await ingestLayer(pull, descriptor, async ({ dataPath }) =>
        workers.run(jobOf(pull, layer, registrySource(pull, dataPath)), watch(pull, layer)),
      );
      return "fetched";
    },
    pull.signal,
  );
  if (outcome === "exists") pull.progress.offset(index, descriptor.size);
}

/** Makes the layer's snapshot be there for the namespace; layers below must be. @param blob the running fetch, if any */
export async function ensureSnapshot(pull: PullContext, layer: Layer, blob: Promise<void> | undefined): Promise<void> {
  const { snapshots, shared } = pull;
  const { chainId, index } = layer;
  pull.pins.add(snapshotPin(pull.namespace, snapshots.name, chainId));
  await shared.locks.run(
    `chain ${snapshots.name} ${chainId}`,
    async () => {
      const taken = await takeExisting(pull, layer, blob);
      if (!taken) await extract(pull, layer, blob);
      pull.progress.state(index, taken ? "exists" : "done");
    },
    pull.signal,
  );
}

/** Uses the layer that is there, whoever made it, once it is proven that this image may; false if there is none. */
async function takeExisting(pull: PullContext, layer: Layer, blob: Promise<void> | undefined): Promise<boolean> {
  const { snapshots, namespace } = pull;
  const own = await snapshots.has(namespace, layer.chainId);
  if (!own && !(await snapshots.physical(layer.chainId))) return false;
  await (blob ?? ensureBlob(pull, layer));
  await proveDiff(pull, layer);
  return own || (await snapshots.share(namespace, layer.chainId));
}

/** Makes sure that the blob decompresses to what the config says. */
async function proveDiff(pull: PullContext, layer: Layer): Promise<void> {
  const { rows, content, unpacks, workers, metadata } = pull.shared;
  const { digest } = layer.descriptor;
  const known = rows.diffOf(digest);
  if (known === layer.diffId) return;
  if (known !== undefined) throw diffMismatch(pull, layer, known);
  using _ = await unpacks.acquire(pull.signal);
  const source: LayerSource = { kind: "file", path: await content.path(pull.namespace, digest) };
  await workers.run({ ...jobOf(pull, layer, source), diffId: layer.diffId }, { signal: pull.signal });
  await metadata.transact([insertDiff(digest, layer.diffId)]);
}

async function extract(pull: PullContext, layer: Layer, blob: Promise<void> | undefined): Promise<void> {
  const { snapshots, namespace, shared } = pull;
  await blob;
  using _ = await shared.unpacks.acquire(pull.signal);
  const key = `extract-${uuidv7()} ${layer.chainId}`;
  const mounts = await snapshots.prepare(namespace, key, layer.parent);
  const mountPoint = await mkdtemp(join(shared.scratch, "layer-"));
  try {
    const mode = layer.parent === "" ? "base" : "merged";
    const target: UnpackTarget = { mounts, mountPoint, mode, limits: shared.limits };
    const result = await extractTo(pull, layer, target);
    for (const warning of result.warnings) shared.logger.debug({ layer: layer.descriptor.digest }, warning);
    throwIfAborted(pull.signal);
    await shared.metadata.transact([insertDiff(layer.descriptor.digest, layer.diffId)]);
    await snapshots.commit(namespace, layer.chainId, key, result.usage);
  } catch (error) {
    // A worker that had to be terminated could not clean up itself.
    unmountAll(mountPoint, { detach: true });
    await snapshots.remove(namespace, key).catch((failure: unknown) => {
      shared.logger.warn({ error: failure, key }, "removing a half-extracted layer failed; the next start tries again");
    });
    throw error;
  } finally {
    await rmdir(mountPoint);
  }
}

/** From the blob if it is here by now, else while it streams. */
async function extractTo(pull: PullContext, layer: Layer, unpack: UnpackTarget): Promise<JobResult> {
  const { locks, content, downloads, workers } = pull.shared;
  const { descriptor, diffId, index } = layer;
  const streamed = await locks.run(
    `blob ${descriptor.digest}`,
    async () => {
      if (await adopt(pull, descriptor.digest)) return undefined;
      using _ = await downloads.acquire(pull.signal);
      pull.progress.state(index, "downloading");
      let result: JobResult | undefined;
      await ingestLayer(pull, descriptor, async ({ dataPath }) => {
        const job = { ...jobOf(pull, layer, registrySource(pull, dataPath)), diffId, unpack };
        result = await workers.run(job, watch(pull, layer));
        return result;
      });
      return result;
    },
    pull.signal,
  );
  if (streamed !== undefined) return streamed;
  pull.progress.offset(index, descriptor.size);
  pull.progress.state(index, "unpacking");
  const source: LayerSource = { kind: "file", path: await content.path(pull.namespace, descriptor.digest) };
  return await workers.run({ ...jobOf(pull, layer, source), diffId, unpack }, { signal: pull.signal });
}

function jobOf(pull: PullContext, { descriptor }: Layer, source: LayerSource): LayerJob {
  return { subject: layerSubject(pull, descriptor), digest: descriptor.digest, sizeBytes: descriptor.size, source };
}

function registrySource(pull: PullContext, path: string): LayerSource {
  return { kind: "registry", session: pull.registry.session(pull.ref), ref: pull.ref, path };
}

function watch(pull: PullContext, { index }: Layer) {
  return { signal: pull.signal, onProgress: (offsetBytes: number) => pull.progress.offset(index, offsetBytes) };
}

function diffMismatch(pull: PullContext, layer: Layer, actual: Digest): StatusError {
  const subject = layerSubject(pull, layer.descriptor);
  const text = `${subject}: its content hashes to ${actual}, but the image's config says ${layer.diffId}; the image is broken`;
  return new StatusError("DATA_LOSS", text, { reason: "LAYER_DIFF_ID_MISMATCH" });
}
