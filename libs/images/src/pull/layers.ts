/** The layers of an image, as a pull works on them. */
import type { Digest } from "@berth/base";
import { chainIds, type Descriptor, type OciImageConfig, type OciManifest } from "@berth/model";

export interface LayerBlob {
  readonly index: number;
  readonly descriptor: Descriptor;
}

export interface Layer extends LayerBlob {
  readonly diffId: Digest;
  readonly chainId: Digest;
  /** Chain id of what is below; empty for the base. */
  readonly parent: string;
}

export interface LayeredImage {
  readonly manifest: OciManifest;
  readonly config: OciImageConfig;
}

/** From the base up. The manifest has as many layers as the config has diff ids. */
export function layersOf({ manifest, config }: LayeredImage): Layer[] {
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
