/** Jobs for layer workers, with the slots they take, and the plain fetch of a blob. */
import type { Digest } from "@berth/base";
import { adopt, ingestLayer, layerSubject } from "./blobs.ts";
import type { PullContext } from "./context.ts";
import type { LayerJob, LayerSource } from "./layer-job.ts";
import type { LayerBlob } from "./layers.ts";

/** Fetches the blob if the namespace lacks it. */
export async function ensureBlob(pull: PullContext, layer: LayerBlob): Promise<void> {
  const { locks, workers } = pull.shared;
  const { descriptor, index } = layer;
  const outcome = await locks.run(
    blobLock(descriptor.digest),
    async () => {
      if (await adopt(pull, descriptor.digest)) return "exists";
      using _ = await slotFor(pull, layer, "transfer");
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

export function blobLock(digest: Digest): string {
  return `blob ${digest}`;
}

/** One layer in a worker; `transfer` when bytes come from the registry. */
export function slotFor(pull: PullContext, layer: LayerBlob, what: "transfer" | "local"): Promise<Disposable> {
  const { share, ref, shared, signal } = pull;
  const host = what === "transfer" ? ref.registry : undefined;
  return shared.slots.acquire({ share, host, sizeBytes: layer.descriptor.size, index: layer.index }, signal);
}

export function jobOf(pull: PullContext, { descriptor }: LayerBlob, source: LayerSource): LayerJob {
  const { mediaType, digest, size } = descriptor;
  const decompress = { ...pull.shared.decompress, mediaType };
  return { subject: layerSubject(pull, descriptor), digest, sizeBytes: size, source, decompress };
}

export function registrySource(pull: PullContext, path: string): LayerSource {
  return {
    kind: "registry",
    session: pull.registry.session(pull.ref),
    ref: pull.ref,
    ranges: pull.shared.ranges,
    path,
  };
}

export function watch(pull: PullContext, { index }: LayerBlob) {
  return { signal: pull.signal, onProgress: (offsetBytes: number) => pull.progress.offset(index, offsetBytes) };
}
