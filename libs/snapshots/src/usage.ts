/** Counting what a directory tree takes: space on disk, and inodes; a file with several names counts once. */
import type { BigIntStats } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import type { SnapshotUsage } from "./snapshotter.ts";

/** Leaves threads of the pool to others. */
const CONCURRENT_STATS = 2;

const SLASH = Buffer.from("/");

/**
 * Entries that vanish while they are counted are not counted: an active snapshot may be in use. With `parent`, the tree
 * of which this one is a snapshot that shares its inode numbers (btrfs), only what was added or changed since counts.
 */
export async function diskUsage(directory: string, parent?: string): Promise<SnapshotUsage> {
  const seen = new Set<bigint>();
  const [top, below] = [Buffer.from(directory), Buffer.from(parent ?? "")];
  const queue = [top];
  let [sizeBytes, inodes] = [0, 0];
  const visit = async (path: Buffer): Promise<void> => {
    const info = await gone(lstat(path, { bigint: true }));
    if (info === undefined) return;
    // One tree lies on one file system, so the inode number alone identifies a file.
    if (!info.isDirectory() && info.nlink > 1n && seen.has(info.ino)) return;
    seen.add(info.ino);
    const other = Buffer.concat([below, path.subarray(top.length)]);
    const unchanged = parent !== undefined && same(info, await gone(lstat(other, { bigint: true })));
    if (!unchanged) {
      sizeBytes += Number(info.blocks) * 512;
      inodes += 1;
    }
    if (!info.isDirectory()) return;
    // Names are bytes: one that is not UTF-8 counts too.
    const names = (await gone(readdir(path, { encoding: "buffer" }))) ?? [];
    for (const name of names) queue.push(Buffer.concat([path, SLASH, name]));
  };
  const worker = async (): Promise<void> => {
    for (let path = queue.pop(); path !== undefined; path = queue.pop()) await visit(path);
  };
  await visit(queue.pop()!);
  await Promise.all(Array.from({ length: CONCURRENT_STATS }, worker));
  return { sizeBytes, inodes };
}

/** Any change of content or attributes changes the ctime. */
function same(info: BigIntStats, other: BigIntStats | undefined): boolean {
  return other !== undefined && info.ino === other.ino && info.ctimeNs === other.ctimeNs && info.size === other.size;
}

async function gone<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
