/** What it means for a layer when the kernel refuses a step of its extraction. */
import { StatusError } from "@berth/base";
import { fromNodeError } from "@berth/linux";
import { isArchiveFault, showName } from "./entry.ts";

const DISK_FULL: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT"]);
const ARCHIVE_AT_FAULT: ReadonlySet<string> = new Set([
  "EXDEV",
  // A hard link that takes the place of the directory its target is in.
  "ENOENT",
  "ELOOP",
  "ENAMETOOLONG",
  "ENOTDIR",
  "EISDIR",
  "EINVAL",
]);

/** What the kernel refused gets the entry's name and, for a full disk, its own reason. */
export function explain(raw: unknown, name: string): unknown {
  const error = fromNodeError(raw, "write", showName(name));
  if (!(error instanceof StatusError) || isArchiveFault(error)) return error;
  if (DISK_FULL.has(error.reason)) {
    return new StatusError("RESOURCE_EXHAUSTED", `disk full while writing entry ${showName(name)}`, {
      reason: "DISK_FULL",
      cause: error,
    });
  }
  if (ARCHIVE_AT_FAULT.has(error.reason)) {
    return new StatusError("INVALID_ARGUMENT", `entry ${showName(name)}: cannot be written: ${error.message}`, {
      reason: "LAYER_INVALID",
      cause: error,
    });
  }
  return new StatusError(error.code, `entry ${showName(name)}: ${error.message}`, {
    reason: error.reason,
    cause: error,
  });
}
