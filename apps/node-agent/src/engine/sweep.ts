/**
 * Finds what lies on the host under our own roots and belongs to no record, and removes it (A6). It touches nothing outside
 * the directories, cgroups and state that this agent alone uses, and of snapshots only those labelled as a container's.
 */
import { readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Logger } from "@berth/base";
import { mountsUnder, unmountUnder } from "@berth/linux";
import type { Network } from "@berth/network";
import type { Runtime } from "@berth/runtime";
import type { NamespacedSnapshots } from "@berth/snapshots";
import { namespaceCgroup, type Container, type EnginePaths } from "./container.ts";
import { CONTAINER_LABEL } from "./steps/snapshot.ts";

export interface SweepDeps {
  readonly runtimes: readonly Runtime[];
  readonly network: Network;
  readonly snapshots: readonly NamespacedSnapshots[];
  readonly paths: EnginePaths;
  readonly logger: Logger;
}

export class Sweep {
  readonly #deps: SweepDeps;

  constructor(deps: SweepDeps) {
    this.#deps = deps;
  }

  /** @returns how many leftovers were removed. */
  async run(owned: readonly Container[]): Promise<number> {
    let removed = 0;
    removed += await this.#containers(owned);
    removed += await this.#bundles(owned);
    const ids = new Set(owned.map(({ namespace, id }) => `${namespace}/${id}`));
    removed += await this.#deps.network.sweep((namespace, id) => ids.has(`${namespace}/${id}`));
    removed += await this.#snapshots(owned);
    removed += await this.#logs(owned);
    return removed;
  }

  async #containers(owned: readonly Container[]): Promise<number> {
    const ids = new Set(owned.map(({ namespace, id }) => `${namespace}/${id}`));
    const { paths, logger } = this.#deps;
    let removed = 0;
    for (const runtime of this.#deps.runtimes) {
      for (const { namespace, id } of await runtime.list()) {
        if (ids.has(`${namespace}/${id}`)) continue;
        logger.warn({ namespace, id, runtime: runtime.name }, "removing a container that no record names");
        const bundle = join(paths.bundles, namespace, id);
        await runtime.delete({ namespace, id, bundle, cgroupPath: `${namespaceCgroup(paths, namespace)}/${id}` });
        removed += 1;
      }
    }
    return removed;
  }

  async #bundles(owned: readonly Container[]): Promise<number> {
    const { paths } = this.#deps;
    const bundles = new Set(owned.map(({ bundle }) => bundle));
    let removed = 0;
    for (const namespace of await directories(paths.bundles)) {
      for (const id of await directories(join(paths.bundles, namespace))) {
        const bundle = join(paths.bundles, namespace, id);
        if (bundles.has(bundle)) continue;
        if (mountsUnder(bundle).length > 0) unmountUnder(bundle, { detach: true });
        await rm(bundle, { recursive: true, force: true });
        removed += 1;
      }
    }
    return removed;
  }

  async #snapshots(owned: readonly Container[]): Promise<number> {
    const keys = new Set(owned.map(({ namespace, snapshotKey }) => `${namespace}/${snapshotKey}`));
    let removed = 0;
    for (const snapshots of this.#deps.snapshots) {
      const leftovers: string[] = [];
      for await (const { key, kind, labels } of snapshots.snapshotter.walk()) {
        if (kind !== "committed" && labels[CONTAINER_LABEL] !== undefined && !keys.has(key)) leftovers.push(key);
      }
      for (const key of leftovers) await snapshots.snapshotter.remove(key);
      removed += leftovers.length;
      removed += await snapshots.snapshotter.cleanup();
    }
    return removed;
  }

  /** Logs of tasks that were removed while nobody could remove the files. */
  async #logs(owned: readonly Container[]): Promise<number> {
    const { paths } = this.#deps;
    const tasks = new Set(owned.map(({ logPath }) => basename(join(logPath, ".."))));
    let removed = 0;
    for (const namespace of await directories(paths.logs)) {
      for (const task of await directories(join(paths.logs, namespace))) {
        if (tasks.has(task)) continue;
        await rm(join(paths.logs, namespace, task), { recursive: true, force: true });
        removed += 1;
      }
    }
    return removed;
  }
}

async function directories(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
