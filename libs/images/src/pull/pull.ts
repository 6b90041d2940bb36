/**
 * One pull, from reference to recorded image.
 *
 * The order that A2 needs: blobs are committed (each on disk when its row says so), layers are committed in chain order,
 * one sync puts all their files on disk, and only then the image's row is written.
 */
import { StatusError, type Digest } from "@berth/base";
import { chainIds } from "@berth/model";
import { insertNamespace, upsertImage } from "../rows.ts";
import type { PullContext } from "./context.ts";
import { resolveImage, type ResolvedImage } from "./resolve.ts";
import { ensureBlob, ensureSnapshot, type Layer } from "./unpack.ts";

export interface PulledImage extends ResolvedImage {
  /** Empty for an image without layers. */
  readonly chainId: Digest | "";
}

export async function pullImage(pull: PullContext): Promise<PulledImage> {
  const { metadata, clock } = pull.shared;
  const pulled = await prepareImage(pull);
  const { target, manifestDigest } = pulled;
  await metadata.transact([upsertImage(pull.namespace, pull.image, target, manifestDigest, clock.nowMs())]);
  pull.progress.phase("done");
  return pulled;
}

/** Everything but the image's row: for a caller that records several images at once. */
export async function prepareImage(pull: PullContext): Promise<PulledImage> {
  const { metadata } = pull.shared;
  pull.progress.phase("resolving");
  await metadata.transact([insertNamespace(pull.namespace)]);
  const resolved = await resolveImage(pull);
  const layers = layersOf(resolved);
  pull.progress.start(resolved.manifest.layers);
  await ensureLayers(pull, layers);
  await pull.snapshots.sync();
  return { ...resolved, chainId: layers.at(-1)?.chainId ?? "" };
}

/** Everything at once: blobs in parallel, snapshots one after the other. The first failure calls the rest off. */
async function ensureLayers(pull: PullContext, layers: readonly Layer[]): Promise<void> {
  const abort = new AbortController();
  const within: PullContext = { ...pull, signal: AbortSignal.any([pull.signal, abort.signal]) };
  const streamed = await firstMissing(pull, layers);
  const blobs = layers.map((layer) => (layer.index === streamed ? undefined : ensureBlob(within, layer)));
  const failed = (error: unknown): never => {
    abort.abort(new StatusError("CANCELLED", "another layer of the pull failed", { cause: error }));
    throw error;
  };
  const watched = blobs.map((blob) => blob?.catch(failed));
  const snapshots = (async () => {
    for (const layer of layers) {
      if (layer.index > (streamed ?? layers.length)) pull.progress.phase("unpacking");
      await ensureSnapshot(within, layer, watched[layer.index]);
    }
  })().catch(failed);
  const outcomes = await Promise.allSettled([...watched, snapshots]);
  const errors = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason as unknown);
  if (errors.length > 0) throw rootCause(errors, abort.signal.reason);
}

/** Not a cancellation that only followed from another failure. */
function rootCause(errors: readonly unknown[], cancelled: unknown): unknown {
  const first = cancelled instanceof StatusError ? cancelled.cause : undefined;
  return first ?? errors[0];
}

/** The lowest layer without a snapshot here: the one that can be extracted while it streams. */
async function firstMissing(pull: PullContext, layers: readonly Layer[]): Promise<number | undefined> {
  for (const { index, chainId } of layers) {
    if (!(await pull.snapshots.physical(chainId))) return index;
  }
  return undefined;
}

export function layersOf({ manifest, config }: Pick<ResolvedImage, "manifest" | "config">): Layer[] {
  const diffIds = config.rootfs.diff_ids;
  const chain = chainIds(diffIds);
  return manifest.layers.map((descriptor, index) => ({
    index,
    descriptor,
    diffId: diffIds[index]!,
    chainId: chain[index]!,
    parent: chain[index - 1] ?? "",
  }));
}
