/**
 * One snapshotter, seen by many tenants: what the engine works with.
 *
 * Invariants:
 *  1. Keys belong to a namespace: `web` of `shop` is `shop/web` in the snapshotter, and unknown to every other namespace.
 *  2. A committed snapshot is private in the same way, unless it is **verified**: its name is a chain id, and whoever commits
 *     it has checked the digest of every layer (A3). Verified layers exist once per host, under their chain id.
 *     What a tenant merely calls `sha256:…` therefore never becomes another tenant's parent.
 *  3. A verified layer is visible only to a namespace that committed it itself or was granted it by `share` (D7), with labels
 *     of its own. A layer on a private parent stays private.
 *  4. A shared layer goes when no namespace refers to it and nothing is built on it.
 */
import { isDigest, KeyedLock, StatusError, systemClock, hasCode, type Clock } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { NamespaceView } from "./namespace-view.ts";
import { SnapshotRefs } from "./refs.ts";
import type { CommitOptions, Snapshotter } from "./snapshotter.ts";

export interface NamespacedCommitOptions extends CommitOptions {
  /**
   * The caller has checked that the content is what the name, a chain id, says. If the host has that layer already, the
   * active snapshot is given up for it.
   */
  readonly verified?: boolean;
}

/** The view of one namespace. Disposing it does nothing: it owns nothing. */
export interface NamespacedSnapshotter extends Snapshotter {
  readonly namespace: string;
  commit(name: string, key: string, options?: NamespacedCommitOptions): Promise<void>;
  /**
   * Makes a verified layer and its parents visible here; false when the host has no such layer. The caller must have
   * proven that the namespace may have it.
   */
  share(name: string): Promise<boolean>;
}

export interface NamespacedDeps {
  /** Not disposed with this. */
  readonly snapshotter: Snapshotter;
  readonly metadata: Metadata;
  readonly clock?: Clock;
}

/** Opens the namespaces of a snapshotter, once per process; grants of layers that are gone are dropped. */
export async function openNamespacedSnapshots(deps: NamespacedDeps): Promise<NamespacedSnapshots> {
  const snapshots = new NamespacedSnapshots(deps);
  await snapshots.reconcile();
  return snapshots;
}

export class NamespacedSnapshots {
  readonly snapshotter: Snapshotter;
  readonly refs: SnapshotRefs;
  readonly clock: Clock;
  /** Held by chain id while a layer is granted or collected, so that neither happens in the middle of the other. */
  readonly locks = new KeyedLock();

  constructor(deps: NamespacedDeps) {
    this.snapshotter = deps.snapshotter;
    this.refs = new SnapshotRefs(deps.metadata, deps.snapshotter.name);
    this.clock = deps.clock ?? systemClock;
  }

  /** @throws INVALID_ARGUMENT for a name that is empty or has a slash. */
  namespace(namespace: string): NamespacedSnapshotter {
    if (namespace === "" || namespace.includes("/")) {
      throw StatusError.invalid([{ field: "namespace", description: "must be a name without a slash" }]);
    }
    return new NamespaceView(this, namespace);
  }

  /** Is this key of the snapshotter one that all namespaces share? */
  isShared(backendKey: string): boolean {
    return isDigest(backendKey);
  }

  /** Removes a shared layer that nobody refers to, and then its parents for which the same holds. */
  async collect(name: string): Promise<void> {
    for (let next = name; next !== "" && this.isShared(next);) {
      const current = next;
      next = await this.locks.run(current, () => this.#removeIfFree(current));
    }
  }

  /** Returns the parent to look at next; empty to stop. */
  async #removeIfFree(name: string): Promise<string> {
    if (this.refs.isHeld(name)) return "";
    try {
      const { parent } = await this.snapshotter.stat(name);
      await this.snapshotter.remove(name);
      return parent;
    } catch (error) {
      // Not there any more, or something is built on it.
      if (hasCode(error, "NOT_FOUND", "FAILED_PRECONDITION")) return "";
      throw error;
    }
  }

  /** Drops grants without a layer and layers without a grant: what a crash between the two steps left. */
  async reconcile(): Promise<void> {
    const dangling = this.refs.names();
    const loose: string[] = [];
    for await (const { key } of this.snapshotter.walk()) {
      if (this.isShared(key) && !dangling.delete(key)) loose.push(key);
    }
    for (const name of dangling) await this.locks.run(name, () => this.#dropIfGone(name));
    // Children first: walk gave the parents first.
    for (const name of loose.reverse()) await this.collect(name);
  }

  /** Looks again under the lock: the layer may have come meanwhile. */
  async #dropIfGone(name: string): Promise<void> {
    try {
      await this.snapshotter.stat(name);
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
      await this.refs.dropEverywhere(name);
    }
  }
}
