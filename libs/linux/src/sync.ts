/** Making things durable: what a caller may call committed only after one of these (A2). */
import { open } from "node:fs/promises";
import { fromNodeError, kernelError } from "./errno.ts";
import { lastErrno, libc } from "./libc.ts";

/**
 * Writes out the whole file system that holds `fd`. Runs on a thread of the pool, so the event loop goes on, but it may
 * take seconds and holds one of the pool's four threads: use {@link syncfsBlocking} in a worker when much was written.
 * Since Linux 5.8 a write-back error since the fd was opened is reported (DATA_LOSS `EIO`): open it before writing.
 */
export function syncfs(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    libc.syncfs.async(fd, (error, result) => {
      // koffi hands the pool thread's errno over to this callback (seen, and tested with a bad descriptor).
      if (error !== null && error !== undefined) reject(error);
      else if (result < 0) reject(kernelError("syncfs", `fd ${fd}`, lastErrno()));
      else resolve();
    });
  });
}

/** The same, blocking the calling thread: for worker threads. */
export function syncfsBlocking(fd: number): void {
  if (libc.syncfs(fd) < 0) throw kernelError("syncfs", `fd ${fd}`, lastErrno());
}

/** Makes names created, renamed or removed in a directory durable. */
export async function fsyncDirectory(path: string): Promise<void> {
  try {
    await using handle = await open(path, "r");
    await handle.sync();
  } catch (error) {
    throw fromNodeError(error, "fsync", JSON.stringify(path));
  }
}
