/**
 * All layers of an image: their blobs fetched, their snapshots there.
 *
 * Where the snapshotter can rebase, all layers that are missing are extracted at once, apart from each other, and committed
 * in the order of the chain; slots are given to lower layers first. Elsewhere the first one that is missing is extracted
 * while it streams, and later ones, whose blobs are fetched meanwhile, over the mounted layers below when their turn comes.
 *
 * Invariant: a layer that is there is used for another image only if that image's blob was seen, here, to decompress to the
 * diff id its config claims. Otherwise a forged config would open another tenant's layers (D7).
 */
import { StatusError, type Digest } from "@berth/base";
import type { Descriptor } from "@berth/model";
import { snapshotPin } from "../pins.ts";
import { insertDiff } from "../rows.ts";
import { layerSubject } from "./blobs.ts";
import type { PullContext } from "./context.ts";
import { extractApart, extractMerged } from "./extract.ts";
import type { LayerSource } from "./layer-job.ts";
import type { Layer } from "./layers.ts";
import { ensureBlob, jobOf, slotFor } from "./transfer.ts";

/** The first failure calls the rest off. */
export async function unpackLayers(pull: PullContext, layers: readonly Layer[]): Promise<void> {
  await together(pull, (within) => (pull.snapshots.rebases ? apart(within, layers) : inOrder(within, layers)));
}

/** Blobs only. */
export async function fetchLayers(pull: PullContext, layers: readonly Descriptor[]): Promise<void> {
  await together(pull, (within) => layers.map((descriptor, index) => ensureBlob(within, { descriptor, index })));
}

async function together(pull: PullContext, start: (within: PullContext) => readonly Promise<void>[]): Promise<void> {
  const abort = new AbortController();
  const started = start({ ...pull, signal: AbortSignal.any([pull.signal, abort.signal]) });
  const tasks = [...started, pull.gate.passed];
  for (const task of tasks) {
    task.catch((error: unknown) => {
      abort.abort(new StatusError("CANCELLED", "another layer of the pull failed", { cause: error }));
    });
  }
  const outcomes = await Promise.allSettled(tasks);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed === undefined) return;
  // Not a cancellation that only followed from another failure.
  const first: unknown = abort.signal.reason instanceof StatusError ? abort.signal.reason.cause : undefined;
  throw first ?? failed.reason;
}

function apart(pull: PullContext, layers: readonly Layer[]): Promise<void>[] {
  let below = Promise.resolve();
  return layers.map((layer) => {
    const under = below;
    return (below = ensureSnapshot(pull, layer, () => extractApart(pull, layer, under)));
  });
}

function inOrder(pull: PullContext, layers: readonly Layer[]): Promise<void>[] {
  const streamed = firstMissing(pull, layers);
  const blobs = layers.map(async (layer) => {
    if (layer.index !== (await streamed)) await ensureBlob(pull, layer);
  });
  const snapshots = (async () => {
    for (const layer of layers) {
      await ensureSnapshot(pull, layer, async () => {
        await blobs[layer.index];
        await extractMerged(pull, layer);
      });
    }
  })();
  return [...blobs, snapshots];
}

/** The lowest layer without a snapshot here: the one that can be extracted while it streams. */
async function firstMissing(pull: PullContext, layers: readonly Layer[]): Promise<number | undefined> {
  for (const { index, chainId } of layers) {
    if (!(await pull.snapshots.physical(chainId))) return index;
  }
  return undefined;
}

/** Makes the layer's snapshot be there for the namespace. */
async function ensureSnapshot(pull: PullContext, layer: Layer, extract: () => Promise<void>): Promise<void> {
  const { snapshots, namespace, shared } = pull;
  const { chainId, index } = layer;
  pull.pins.add(snapshotPin(namespace, snapshots.name, chainId));
  await shared.locks.run(
    `chain ${snapshots.name} ${chainId}`,
    async () => {
      const taken = await takeExisting(pull, layer);
      if (!taken) await extract();
      pull.progress.state(index, taken ? "exists" : "done");
    },
    pull.signal,
  );
}

/** Uses the layer that is there, whoever made it, once it is proven that this image may; false if there is none. */
async function takeExisting(pull: PullContext, layer: Layer): Promise<boolean> {
  const { snapshots, namespace, gate } = pull;
  const own = await snapshots.has(namespace, layer.chainId);
  if (!own && !(await snapshots.physical(layer.chainId))) return false;
  await ensureBlob(pull, layer);
  await gate.passed;
  await proveDiff(pull, layer);
  return own || (await snapshots.share(namespace, layer.chainId));
}

/** Makes sure that the blob decompresses to what the config says. */
async function proveDiff(pull: PullContext, layer: Layer): Promise<void> {
  const { rows, content, workers, metadata } = pull.shared;
  const { digest } = layer.descriptor;
  const known = rows.diffOf(digest);
  if (known === layer.diffId) return;
  if (known !== undefined) throw diffMismatch(pull, layer, known);
  using _ = await slotFor(pull, layer, "local");
  const source: LayerSource = { kind: "file", path: await content.path(pull.namespace, digest) };
  await workers.run({ ...jobOf(pull, layer, source), diffId: layer.diffId }, { signal: pull.signal });
  await metadata.transact([insertDiff(digest, layer.diffId)]);
}

function diffMismatch(pull: PullContext, layer: Layer, actual: Digest): StatusError {
  const subject = layerSubject(pull, layer.descriptor);
  const text = `${subject}: its content hashes to ${actual}, but the image's config says ${layer.diffId}; the image is broken`;
  return new StatusError("DATA_LOSS", text, { reason: "LAYER_DIFF_ID_MISMATCH" });
}
