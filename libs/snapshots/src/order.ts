/** The order in which snapshots are listed. */
import type { SnapshotInfo } from "./snapshotter.ts";

/** By depth, then age: a rebased layer may well be older than its parent. */
export function parentsFirst<T extends SnapshotInfo>(infos: readonly T[]): T[] {
  const byKey = new Map(infos.map((info) => [info.key, info]));
  const depths = new Map<string, number>();
  const depth = (info: T): number => {
    let count = depths.get(info.key);
    if (count === undefined) {
      const parent = byKey.get(info.parent);
      count = parent === undefined ? 0 : depth(parent) + 1;
      depths.set(info.key, count);
    }
    return count;
  };
  return [...infos].sort((a, b) => depth(a) - depth(b) || a.createdAtMs - b.createdAtMs || (a.key < b.key ? -1 : 1));
}
