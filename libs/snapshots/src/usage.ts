/** Counting what a directory tree takes: space on disk, and inodes; a file with several names counts once. */
import { lstat, readdir } from "node:fs/promises";
import type { SnapshotUsage } from "./snapshotter.ts";

/** Leaves threads of the pool to others. */
const CONCURRENT_STATS = 2;

const SLASH = Buffer.from("/");

/** Entries that vanish while they are counted are not counted: an active snapshot may be in use. */
export async function diskUsage(directory: string): Promise<SnapshotUsage> {
  const seen = new Set<bigint>();
  const queue = [Buffer.from(directory)];
  let sizeBytes = 0;
  const visit = async (path: Buffer): Promise<void> => {
    const info = await gone(lstat(path, { bigint: true }));
    if (info === undefined) return;
    // One tree lies on one file system, so the inode number alone identifies a file.
    if (!info.isDirectory() && info.nlink > 1n && seen.has(info.ino)) return;
    seen.add(info.ino);
    sizeBytes += Number(info.blocks) * 512;
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
  return { sizeBytes, inodes: seen.size };
}

async function gone<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
