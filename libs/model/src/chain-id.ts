/** Chain ids (OCI image-spec, config.md "Layer ChainID"): the name of a layer together with everything beneath it. */
import { digestOf, type Digest } from "@berth/base";

/** Chain ids of each layer, base first. The first equals its diff id. */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chain;
}
