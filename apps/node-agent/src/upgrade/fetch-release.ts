/**
 * A release out of a registry: an image of one layer, which is the archive. Its manifest is named by digest, so everything is what
 * whoever gave the order meant, from whichever mirror it comes.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { siblingModule, StatusError } from "@berth/base";
import { fromPlainError } from "@berth/images/trees";
import { parseImageReference, parseManifest } from "@berth/model";
import type { RegistryClient } from "@berth/registry";
import type { ReleaseJob } from "./release-thread.ts";

/**
 * @param file where the archive is written
 * @throws INVALID_ARGUMENT `RELEASE_IMAGE`; what the registry answers; DATA_LOSS `ARCHIVE_DIGEST`
 */
export async function fetchRelease(
  registry: RegistryClient,
  image: string,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const refuse = (why: string): StatusError =>
    new StatusError("INVALID_ARGUMENT", `image ${image}: ${why}`, { reason: "RELEASE_IMAGE" });
  const ref = parseImageReference(image);
  if (ref.digest === undefined)
    throw refuse("name it by digest, repository@sha256:…, so that every node gets the same");
  const { bytes } = await registry.manifest(ref, { signal });
  const document = parseManifest(bytes, image);
  if (document.kind !== "manifest" || document.manifest.layers.length !== 1) {
    throw refuse("is no release of Berth, which is an image of one layer (npm run pack writes it to dist/image)");
  }
  const [layer] = document.manifest.layers;
  const job: ReleaseJob = { session: registry.session(ref), ref, digest: layer!.digest, sizeBytes: layer!.size, file };
  const worker = new Worker(siblingModule("release-thread", import.meta.url), { workerData: job, name: "release" });
  try {
    const [failure] = (await once(worker, "message", { signal })) as [Parameters<typeof fromPlainError>[0] | undefined];
    if (failure !== undefined) throw fromPlainError(failure);
  } finally {
    await worker.terminate();
  }
}
