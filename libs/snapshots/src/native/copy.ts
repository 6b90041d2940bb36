/**
 * A full copy of a tree: owners, modes, times to the nanosecond, xattrs, hard links, devices and holes, sharing blocks
 * where the file system can (reflink). coreutils' `cp` does all that, outside of our threads.
 */
import { spawn } from "node:child_process";
import { StatusError } from "@berth/base";
import { diskInfo } from "@berth/linux";

/** Less free than this after a failure, and the disk is the likely cause. */
const NEARLY_NOTHING_BYTES = 1 << 20;

/**
 * Makes `target`, which must not exist, a copy of the directory `source`.
 * @throws RESOURCE_EXHAUSTED `SNAPSHOT_DISK_FULL`; INTERNAL `SNAPSHOT_COPY_FAILED`.
 */
export async function copyTree(source: string, target: string): Promise<void> {
  const failure = await run("cp", ["--archive", "--reflink=auto", "--no-target-directory", "--", source, target]);
  if (failure === undefined) return;
  const { availableBytes, totalInodes, freeInodes } = diskInfo(target.slice(0, target.lastIndexOf("/")) || "/");
  const full = availableBytes < NEARLY_NOTHING_BYTES || (totalInodes > 0 && freeInodes === 0);
  throw new StatusError(full ? "RESOURCE_EXHAUSTED" : "INTERNAL", `copy "${source}" to "${target}": ${failure}`, {
    reason: full ? "SNAPSHOT_DISK_FULL" : "SNAPSHOT_COPY_FAILED",
  });
}

/** Resolves with what went wrong. */
function run(command: string, args: readonly string[]): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (stderr.length < 2048) stderr += text;
  });
  child.once("error", (error) => resolve(error.message));
  child.once("close", (code, signal) => resolve(code === 0 ? undefined : stderr.trim() || `${code ?? signal}`));
  return promise;
}
