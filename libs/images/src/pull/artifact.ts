/** Artifacts: what a registry holds in the form of an image that is none, such as charts, signatures and attestations. */
import { MEDIA_TYPES, parseImageConfig, type OciImageConfig, type OciManifest } from "@berth/model";

const LAYER_TYPES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.ociLayer,
  MEDIA_TYPES.ociLayerGzip,
  MEDIA_TYPES.ociLayerZstd,
  MEDIA_TYPES.dockerLayer,
  MEDIA_TYPES.dockerLayerGzip,
]);

export function isLayerType(mediaType: string): boolean {
  return LAYER_TYPES.has(mediaType);
}

/** What the config of a manifest says, or what kind of artifact it belongs to. */
export type ImageKind =
  | { readonly config: OciImageConfig; readonly artifactType?: undefined }
  | { readonly config?: undefined; readonly artifactType: string };

/** @throws INVALID_ARGUMENT `IMAGE_CONFIG_INVALID` */
export function kindOf(manifest: OciManifest, configBytes: Uint8Array, subject: string): ImageKind {
  const { artifactType, config, layers } = manifest;
  const isConfig = config.mediaType === MEDIA_TYPES.ociConfig || config.mediaType === MEDIA_TYPES.dockerConfig;
  if (!isConfig) return { artifactType: artifactType ?? config.mediaType };
  const [first] = layers;
  const noLayers = first !== undefined && !layers.some(({ mediaType }) => isLayerType(mediaType));
  if (noLayers && namesNoPlatform(configBytes)) return { artifactType: artifactType ?? first.mediaType };
  return { config: parseImageConfig(configBytes, subject) };
}

/**
 * Signatures of cosign and attestations of BuildKit wear an image's config. Theirs names no platform that anything could
 * run on: an empty one, or `unknown`.
 */
function namesNoPlatform(configBytes: Uint8Array): boolean {
  try {
    const { os } = JSON.parse(Buffer.from(configBytes).toString("utf8")) as { readonly os?: unknown };
    return os === undefined || os === "" || os === "unknown";
  } catch {
    return false;
  }
}
