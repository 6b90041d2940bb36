/**
 * A snapshot that a layer is being extracted to: committed, or gone with its mounts.
 *
 * Invariant: what is disposed without having been committed leaves neither snapshot nor mount nor folder (A6).
 */
import { mkdtemp, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { uuidv7 } from "@berth/base";
import { unmountAll } from "@berth/linux";
import type { Mount } from "@berth/snapshots";
import type { PullContext } from "./context.ts";
import type { LayerUsage } from "./layer-snapshots.ts";
import type { Layer } from "./layers.ts";

/** A folder for mounts, for as long as it is needed; what is still mounted on it at the end goes with it. */
export interface MountPoint extends AsyncDisposable {
  readonly path: string;
}

export async function makeMountPoint(scratch: string): Promise<MountPoint> {
  const path = await mkdtemp(join(scratch, "layer-"));
  return {
    path,
    async [Symbol.asyncDispose]() {
      // A worker that had to be terminated could not clean up itself.
      unmountAll(path, { detach: true });
      await rmdir(path);
    },
  };
}

export class HalfLayer implements AsyncDisposable {
  readonly mounts: readonly Mount[];
  readonly #pull: PullContext;
  readonly #layer: Layer;
  readonly #key: string;
  #committed = false;

  private constructor(pull: PullContext, layer: Layer, key: string, mounts: readonly Mount[]) {
    this.#pull = pull;
    this.#layer = layer;
    this.#key = key;
    this.mounts = mounts;
  }

  /** @param parent what it is prepared on; empty to extract the layer apart from what is below */
  static async prepare(pull: PullContext, layer: Layer, parent: string): Promise<HalfLayer> {
    const key = `extract-${uuidv7()} ${layer.chainId}`;
    const mounts = await pull.snapshots.prepare(pull.namespace, key, parent);
    return new HalfLayer(pull, layer, key, mounts);
  }

  /** The caller has checked digest and diff id (A3); what is below is committed. */
  async commit(usage: LayerUsage): Promise<void> {
    const { snapshots, namespace } = this.#pull;
    await snapshots.commit(namespace, this.#layer.chainId, this.#key, { usage, parent: this.#layer.parent });
    this.#committed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#committed) return;
    const { snapshots, namespace, shared } = this.#pull;
    await snapshots.remove(namespace, this.#key).catch((error: unknown) => {
      shared.logger.warn(
        { error, key: this.#key },
        "removing a half-extracted layer failed; the next start tries again",
      );
    });
  }
}

/** Looks at what is below a layer, while `body` runs. */
export async function withBelow<T>(
  pull: PullContext,
  layer: Layer,
  body: (mounts: readonly Mount[]) => Promise<T>,
): Promise<T> {
  const { snapshots, namespace } = pull;
  const key = `extract-${uuidv7()} below ${layer.chainId}`;
  const mounts = await snapshots.view(namespace, key, layer.parent);
  try {
    return await body(mounts);
  } finally {
    await snapshots.remove(namespace, key);
  }
}
