/**
 * A full copy of a tree: owners, modes, times to the nanosecond, xattrs, hard links, devices and holes, sharing blocks
 * where the file system can (reflink). coreutils' `cp` does all that, outside of our threads.
 */
import { StatusError } from "@berth/base";
import { diskInfo } from "@berth/linux";
import { runProgram } from "../program.ts";

/** Less free than this after a failure, and the disk is the likely cause. */
const NEARLY_NOTHING_BYTES = 1 << 20;

/**
 * Makes `target`, which must not exist, a copy of the directory `source`.
 * @throws RESOURCE_EXHAUSTED `SNAPSHOT_DISK_FULL`; INTERNAL `SNAPSHOT_COPY_FAILED`.
 */
export async function copyTree(source: string, target: string): Promise<void> {
  const args = ["--archive", "--reflink=auto", "--no-target-directory", "--", source, target];
  const outcome = await runProgram("cp", args);
  if (outcome.ok) return;
  const { failure } = outcome;
  const { availableBytes, totalInodes, freeInodes } = diskInfo(target.slice(0, target.lastIndexOf("/")) || "/");
  const full = availableBytes < NEARLY_NOTHING_BYTES || (totalInodes > 0 && freeInodes === 0);
  throw new StatusError(full ? "RESOURCE_EXHAUSTED" : "INTERNAL", `copy "${source}" to "${target}": ${failure}`, {
    reason: full ? "SNAPSHOT_DISK_FULL" : "SNAPSHOT_COPY_FAILED",
  });
}
