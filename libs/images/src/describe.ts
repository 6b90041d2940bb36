/** What the stored manifest and config of an image say of running it. */
import { hasCode, StatusError, type Digest } from "@berth/base";
import type { ContentStore } from "@berth/content";
import { MANIFEST_LIMITS, parseManifest, type OciImageConfig } from "@berth/model";
import type { UnpackedImage } from "./images.ts";
import { kindOf } from "./pull/artifact.ts";
import { layersOf } from "./pull/layers.ts";
import type { ImageRow } from "./rows.ts";

/** What an artifact says of how to run it. */
const NO_CONFIG: OciImageConfig = { os: "", architecture: "", rootfs: { type: "layers", diff_ids: [] } };

/** @throws NOT_FOUND `IMAGE_MISSING` where a document is gone, DATA_LOSS where the manifest is none */
export async function describeImage(
  content: ContentStore,
  { record, manifest }: ImageRow,
  snapshotter: string,
): Promise<UnpackedImage> {
  const { namespace, name } = record;
  const document = parseManifest(await read(content, namespace, name, manifest, MANIFEST_LIMITS.manifestBytes), name);
  if (document.kind !== "manifest") {
    throw new StatusError("DATA_LOSS", `image "${name}": its recorded manifest is an index; pull it again`);
  }
  const { config: descriptor, layers } = document.manifest;
  const bytes = await read(content, namespace, name, descriptor.digest, MANIFEST_LIMITS.configBytes);
  const { config, artifactType } = kindOf(document.manifest, bytes, name);
  const sizeBytes = layers.reduce((sum, layer) => sum + layer.size, descriptor.size);
  const common = { image: record, manifest, configDigest: descriptor.digest, snapshotter, sizeBytes };
  if (config === undefined) return { ...common, config: NO_CONFIG, chainId: "", artifactType };
  const chainId = layersOf({ manifest: document.manifest, config }).at(-1)?.chainId ?? "";
  return { ...common, config, chainId };
}

async function read(
  content: ContentStore,
  namespace: string,
  name: string,
  digest: Digest,
  maxBytes: number,
): Promise<Uint8Array> {
  try {
    return await content.readAll(namespace, digest, maxBytes);
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND")) throw error;
    throw new StatusError("NOT_FOUND", `image "${name}" is incomplete (${digest} is gone); pull it again`, {
      reason: "IMAGE_MISSING",
      cause: error,
    });
  }
}
