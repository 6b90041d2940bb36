/** A file system that is small enough to be filled. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface TinyDisk extends AsyncDisposable {
  readonly folder: string;
}

/** Why a tiny disk cannot be had here, for a test's `skip`; false if it can. */
export const noTinyDisk: string | false = process.getuid?.() === 0 ? false : "mounting a tmpfs needs root";

/** Mounts a tmpfs of that size; unmounts and removes it at dispose. */
export async function tinyDisk(sizeBytes: number): Promise<TinyDisk> {
  const folder = await mkdtemp(join(tmpdir(), "berth-tiny-disk-"));
  await run("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "berth-tiny-disk", folder]);
  return {
    folder,
    async [Symbol.asyncDispose]() {
      await run("umount", ["--lazy", folder]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
