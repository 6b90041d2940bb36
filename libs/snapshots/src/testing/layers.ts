/** Building snapshots for tests: apply a change through the mounts, then commit, as an unpacker would. */
import { withTempMount } from "../mounts.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";
import { readTree, type Tree } from "./tree.ts";

export type Change = (root: string) => void;

/** What a suite needs of the implementation under test. */
export interface ConformanceHost {
  readonly snapshotter: Snapshotter;
  /** A directory for temporary mounts; removed by the host. */
  readonly mountDir: string;
  /** Disposes the snapshotter and opens it again on the same files and records. */
  reopen(): Promise<Snapshotter>;
  /** Puts something where the snapshotter keeps its directories, as a crash between directory and row would. */
  plantOrphan?(): Promise<void>;
  /** False where the file system has no extended attributes and whole seconds only (zfs-fuse). */
  readonly keepsAttributes?: boolean;
  /** False for full copies. */
  readonly sharesWithParents?: boolean;
}

/** Prepares, changes and commits one layer. */
export async function layer(host: ConformanceHost, name: string, parent: string, change: Change): Promise<void> {
  const key = `${name}-active`;
  await within(host, await host.snapshotter.prepare(key, parent), change);
  await host.snapshotter.commit(name, key);
}

/** A chain of layers, one on the other; returns the name of the top. */
export async function chain(host: ConformanceHost, prefix: string, changes: readonly Change[]): Promise<string> {
  let parent = "";
  for (const [i, change] of changes.entries()) {
    await layer(host, `${prefix}-${i}`, parent, change);
    parent = `${prefix}-${i}`;
  }
  return parent;
}

export function within<T>(host: ConformanceHost, mounts: readonly Mount[], body: (root: string) => T): Promise<T> {
  return withTempMount(mounts, host.mountDir, body);
}

/** What an active snapshot or a view shows. */
export async function treeOf(host: ConformanceHost, key: string, snapshotter = host.snapshotter): Promise<Tree> {
  return await within(host, await snapshotter.mounts(key), readTree);
}

/** What a view of a committed snapshot shows. */
export async function committedTree(host: ConformanceHost, name: string): Promise<Tree> {
  const key = `view-of-${name}-${Math.random().toString(36).slice(2)}`;
  const tree = await within(host, await host.snapshotter.view(key, name), readTree);
  await host.snapshotter.remove(key);
  return tree;
}

export async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
