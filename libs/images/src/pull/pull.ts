/**
 * One pull, from reference to recorded image.
 *
 * The order that A2 needs: blobs are committed (each on disk when its row says so), layers are committed in chain order,
 * one sync puts all their files on disk, and only then the image's row is written.
 */
import type { Digest } from "@berth/base";
import { parseImageReference } from "@berth/model";
import type { Descriptor } from "@berth/model";
import { insertNamespace, upsertImage } from "../rows.ts";
import { ingestRef } from "./blobs.ts";
import type { Gate, PullInput } from "./context.ts";
import { layersOf } from "./layers.ts";
import { resolveImage, type ResolvedImage } from "./resolve.ts";
import { newShare } from "./slots.ts";
import { fetchLayers, unpackLayers } from "./unpack.ts";

export interface PulledImage extends ResolvedImage {
  /** Empty for an image without layers, and for an artifact. */
  readonly chainId: Digest | "";
}

export async function pullImage(pull: PullInput): Promise<PulledImage> {
  const { metadata, clock } = pull.shared;
  const pulled = await prepareImage(pull);
  const { target, manifestDigest } = pulled;
  await metadata.transact([upsertImage(pull.namespace, pull.image, target, manifestDigest, clock.nowMs())]);
  pull.shared.grew(pull.namespace);
  pull.progress.phase("done");
  return pulled;
}

/** Everything but the image's row: for a caller that records several images at once. */
export async function prepareImage(pull: PullInput): Promise<PulledImage> {
  const { metadata, workers } = pull.shared;
  pull.progress.phase("resolving");
  await metadata.transact([insertNamespace(pull.namespace)]);
  const resolved = await resolveImage(pull, () => workers.warm(1));
  const { manifest, config } = resolved;
  pull.progress.start(manifest.layers, await keptBytes(pull, manifest.layers));
  const within = { ...pull, share: newShare(), gate: openGate(pull, resolved) };
  const layers = config === undefined ? [] : layersOf({ manifest, config });
  if (config === undefined || !pull.unpack) await fetchLayers(within, manifest.layers);
  else await unpackLayers(within, layers);
  await pull.snapshots.sync();
  return { ...resolved, chainId: layers.at(-1)?.chainId ?? "" };
}

/** What earlier pulls left of each layer. */
async function keptBytes({ shared, namespace }: PullInput, layers: readonly Descriptor[]): Promise<number[]> {
  const kept = new Map<string, number>();
  for (const { ref, offsetBytes } of await shared.content.listStatuses(namespace)) kept.set(ref, offsetBytes);
  return layers.map(({ digest }) => kept.get(ingestRef("layer", digest)) ?? 0);
}

/** Asks whether the namespace may use the image, under the name that it gets. */
function openGate(pull: PullInput, resolved: ResolvedImage): Gate {
  const { shared, namespace, image, registry, signal, signatures } = pull;
  if (shared.verify === undefined) return { open: true, passed: Promise.resolve() };
  const { target, manifest } = resolved.documents;
  const ref = parseImageReference(image);
  const candidate = { namespace, image, ref, target, manifest, registry, ...(signatures && { signatures }) };
  const gate = {
    open: false,
    passed: shared.verify(candidate, signal).then(() => {
      gate.open = true;
    }),
  };
  return gate;
}
