/** {@link LayerSnapshots} over the namespaced snapshotter: layers are its verified, shared snapshots. */
import { hasCode, StatusError } from "@berth/base";
import type { Mount, NamespacedSnapshots } from "@berth/snapshots";
import type { LayerCommit, LayerSnapshots } from "./layer-snapshots.ts";

/** Marks snapshots being extracted to, so that the next start finds those a crash left. */
const EXTRACT_LABEL = "berth.dev/extract";

export class NamespacedLayers implements LayerSnapshots {
  readonly name: string;
  readonly rebases: boolean;
  readonly #all: NamespacedSnapshots;

  constructor(all: NamespacedSnapshots) {
    this.#all = all;
    this.name = all.snapshotter.name;
    this.rebases = all.snapshotter.capabilities.rebase;
  }

  /** Not by `stat`: that would also find a snapshot which the tenant itself committed under a chain id's name. */
  async has(namespace: string, chainId: string): Promise<boolean> {
    return this.#all.refs.find(namespace, chainId) !== undefined;
  }

  async physical(chainId: string): Promise<boolean> {
    try {
      await this.#all.snapshotter.stat(chainId);
      return true;
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
  }

  async share(namespace: string, chainId: string): Promise<boolean> {
    return await this.#all.namespace(namespace).share(chainId);
  }

  async prepare(namespace: string, key: string, parent: string): Promise<readonly Mount[]> {
    return await this.#all.namespace(namespace).prepare(key, parent, { labels: { [EXTRACT_LABEL]: "true" } });
  }

  async view(namespace: string, key: string, parent: string): Promise<readonly Mount[]> {
    return await this.#all.namespace(namespace).view(key, parent, { labels: { [EXTRACT_LABEL]: "true" } });
  }

  async commit(namespace: string, chainId: string, key: string, { usage, parent }: LayerCommit): Promise<void> {
    try {
      await this.#all.namespace(namespace).commit(chainId, key, { verified: true, usage, parent });
    } catch (error) {
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      const text = `namespace "${namespace}" has a snapshot of its own named ${chainId}; remove it and pull again`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "SNAPSHOT_NAME_TAKEN", cause: error });
    }
  }

  async remove(namespace: string, key: string): Promise<number> {
    const { sizeBytes } = await this.#usage(key);
    await this.#all.namespace(namespace).remove(key);
    return (await this.physical(key)) ? 0 : sizeBytes;
  }

  async sweepExtractions(): Promise<void> {
    const left: string[] = [];
    for await (const { key, kind, labels } of this.#all.snapshotter.walk()) {
      if (kind !== "committed" && labels[EXTRACT_LABEL] !== undefined) left.push(key);
    }
    for (const key of left) await this.#all.snapshotter.remove(key);
    if (left.length > 0) await this.#all.reconcile();
  }

  async sync(): Promise<void> {
    await this.#all.snapshotter.sync();
  }

  /** Of a committed layer; nothing for what is being extracted. */
  async #usage(key: string): Promise<{ readonly sizeBytes: number }> {
    try {
      return await this.#all.snapshotter.usage(key);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return { sizeBytes: 0 };
      throw error;
    }
  }
}
