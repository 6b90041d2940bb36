/** One namespace's view of a snapshotter; the rules are in `namespaced.ts`. */
import { hasCode, StatusError } from "@berth/base";
import type { NamespacedCommitOptions, NamespacedSnapshots, NamespacedSnapshotter } from "./namespaced.ts";
import type { SnapshotRef } from "./refs.ts";
import type {
  CommitOptions,
  Mount,
  PrepareOptions,
  SnapshotInfo,
  SnapshotKind,
  SnapshotOptions,
  SnapshotterCapabilities,
  SnapshotUsage,
} from "./snapshotter.ts";

export class NamespaceView implements NamespacedSnapshotter {
  readonly namespace: string;
  readonly name: string;
  readonly capabilities: SnapshotterCapabilities;
  readonly #all: NamespacedSnapshots;
  readonly #prefix: string;

  constructor(all: NamespacedSnapshots, namespace: string) {
    this.#all = all;
    this.namespace = namespace;
    this.#prefix = `${namespace}/`;
    this.name = all.snapshotter.name;
    this.capabilities = all.snapshotter.capabilities;
  }

  stat(key: string): Promise<SnapshotInfo> {
    return this.#told(async () => this.#show(await this.#all.snapshotter.stat(this.#resolve(key)))!);
  }

  update(key: string, labels: Readonly<Record<string, string>>): Promise<SnapshotInfo> {
    return this.#told(async () => {
      const { refs, clock, snapshotter } = this.#all;
      if (await refs.updateLabels(this.namespace, key, labels, clock.nowMs())) return await this.stat(key);
      return this.#show(await snapshotter.update(this.#private(key), labels))!;
    });
  }

  usage(key: string): Promise<SnapshotUsage> {
    return this.#told(() => this.#all.snapshotter.usage(this.#resolve(key)));
  }

  countedBytes(key: string): Promise<number | undefined> {
    return this.#told(async () => await this.#all.snapshotter.countedBytes?.(this.#resolve(key)));
  }

  mounts(key: string): Promise<readonly Mount[]> {
    return this.#told(() => this.#all.snapshotter.mounts(this.#resolve(key)));
  }

  prepare(key: string, parent: string, options?: PrepareOptions): Promise<readonly Mount[]> {
    return this.#told(async () => {
      this.#assertFree(key);
      return await this.#all.snapshotter.prepare(this.#private(key), this.#parent(parent), options);
    });
  }

  view(key: string, parent: string, options?: SnapshotOptions): Promise<readonly Mount[]> {
    return this.#told(async () => {
      this.#assertFree(key);
      return await this.#all.snapshotter.view(this.#private(key), this.#parent(parent), options);
    });
  }

  commit(name: string, key: string, options: NamespacedCommitOptions = {}): Promise<void> {
    return this.#told(async () => {
      const { verified, parent, ...rest } = options;
      this.#assertFree(name);
      const backend = { ...rest, ...(parent === undefined ? {} : { parent: this.#parent(parent) }) };
      const below = backend.parent ?? (await this.#all.snapshotter.stat(this.#private(key))).parent;
      const shared = verified === true && this.#all.isShared(name) && (below === "" || this.#all.isShared(below));
      if (shared) await this.#commitShared(name, key, backend);
      else await this.#all.snapshotter.commit(this.#private(name), this.#private(key), backend);
    });
  }

  async #commitShared(name: string, key: string, options: CommitOptions): Promise<void> {
    const { snapshotter, refs, clock, locks } = this.#all;
    if (name !== key) await this.#assertAbsent(name);
    await locks.run(name, async () => {
      try {
        // The layer's own record carries no labels: those are each namespace's.
        await snapshotter.commit(name, this.#private(key), { ...options, labels: {} });
      } catch (error) {
        if (!hasCode(error, "ALREADY_EXISTS")) throw error;
        // Another namespace was first with the same, verified content.
        await snapshotter.remove(this.#private(key));
      }
      await refs.add(this.namespace, [name], clock.nowMs(), options.labels ?? {});
    });
  }

  async remove(key: string): Promise<void> {
    await this.#told(async () => {
      const { snapshotter, refs } = this.#all;
      const backend = this.#resolve(key);
      if (this.#all.isShared(backend)) {
        await this.#assertChildless(key, backend);
        await refs.drop(this.namespace, key);
        await this.#all.collect(key);
      } else {
        const { parent } = await snapshotter.stat(backend);
        await snapshotter.remove(backend);
        await this.#all.collect(parent);
      }
    });
  }

  async share(name: string): Promise<boolean> {
    const { snapshotter, refs, clock, locks } = this.#all;
    if (!this.#all.isShared(name)) return false;
    return await locks.run(name, async () => {
      try {
        // Under the lock the layer cannot be collected, and its parents cannot because it is built on them.
        const names: string[] = [];
        for (let next = name; next !== ""; next = (await snapshotter.stat(next)).parent) names.push(next);
        await refs.add(this.namespace, names, clock.nowMs());
        return true;
      } catch (error) {
        if (hasCode(error, "NOT_FOUND")) return false;
        throw error;
      }
    });
  }

  async *walk(filter: { readonly parent?: string; readonly kind?: SnapshotKind } = {}): AsyncIterable<SnapshotInfo> {
    const { parent, kind } = filter;
    const backend = { ...(kind === undefined ? {} : { kind }), ...(parent ? { parent: this.#parent(parent) } : {}) };
    for await (const found of this.#all.snapshotter.walk(backend)) {
      const shown = this.#show(found);
      if (shown !== undefined && (parent === undefined || shown.parent === parent)) yield shown;
    }
  }

  sync(): Promise<void> {
    return this.#all.snapshotter.sync();
  }

  /** Of the whole snapshotter, and the layers that lost their last grant in a crash. */
  async cleanup(): Promise<number> {
    await this.#all.reconcile();
    return await this.#all.snapshotter.cleanup();
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #private(key: string): string {
    if (key === "") {
      throw StatusError.invalid([{ field: "key", description: "must not be empty" }], "SNAPSHOT_KEY_EMPTY");
    }
    return this.#prefix + key;
  }

  /** The snapshotter's key for what this namespace calls `key`. */
  #resolve(key: string): string {
    return this.#all.refs.find(this.namespace, key) === undefined ? this.#private(key) : key;
  }

  #parent(parent: string): string {
    return parent === "" ? "" : this.#resolve(parent);
  }

  /** A record of the snapshotter as this namespace sees it; undefined when it does not. */
  #show(found: SnapshotInfo): SnapshotInfo | undefined {
    const parent = found.parent.startsWith(this.#prefix) ? found.parent.slice(this.#prefix.length) : found.parent;
    if (found.key.startsWith(this.#prefix)) return { ...found, key: found.key.slice(this.#prefix.length), parent };
    const ref = this.#all.isShared(found.key) ? this.#all.refs.find(this.namespace, found.key) : undefined;
    return ref === undefined ? undefined : { ...found, ...ownMarks(ref), parent };
  }

  /** Keys of its own and granted names are one name space (invariant 1 of the contract). */
  #assertFree(key: string): void {
    if (this.#all.refs.find(this.namespace, key) === undefined) return;
    throw new StatusError("ALREADY_EXISTS", `snapshot "${key}": exists already`, { reason: "SNAPSHOT_EXISTS" });
  }

  async #assertAbsent(key: string): Promise<void> {
    try {
      await this.#all.snapshotter.stat(this.#private(key));
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return;
      throw error;
    }
    throw new StatusError("ALREADY_EXISTS", `snapshot "${key}": exists already`, { reason: "SNAPSHOT_EXISTS" });
  }

  async #assertChildless(key: string, backend: string): Promise<void> {
    for await (const child of this.#all.snapshotter.walk({ parent: backend })) {
      if (this.#show(child) === undefined) continue;
      throw new StatusError("FAILED_PRECONDITION", `snapshot "${key}": has children; remove them first`, {
        reason: "SNAPSHOT_HAS_CHILDREN",
      });
    }
  }

  /** Errors speak of the namespace's own names. */
  async #told<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      if (!(error instanceof StatusError) || !error.message.includes(`"${this.#prefix}`)) throw error;
      const { code, reason, details, violations } = error;
      const message = error.message.replaceAll(`"${this.#prefix}`, '"');
      throw new StatusError(code, message, { reason, details, violations, cause: error });
    }
  }
}

function ownMarks({ labels, createdAtMs, updatedAtMs }: SnapshotRef): Partial<SnapshotInfo> {
  return { labels, createdAtMs, updatedAtMs };
}
