/** Removing an entry with all that is beneath it, without ever following a link. */
import { closeSync, constants, readdirSync } from "node:fs";
import { hasErrno, openAt, unlinkAt } from "@berth/linux";
import { invalidArchive, pathArg } from "./entry.ts";

/** Each level holds a descriptor; trees deeper than any path can name come from archives that mean harm. */
const MAX_DEPTH = 2048;

/** Removes what `name` stands for; false when there was nothing. */
export function removeTree(dirFd: number, name: string, depth = 0): boolean {
  if (depth > MAX_DEPTH) throw invalidArchive(`a directory to be removed is more than ${MAX_DEPTH} levels deep`);
  const arg = pathArg(name);
  try {
    return unlinkAt(dirFd, arg);
  } catch (error) {
    if (!hasErrno(error, "EISDIR", "EPERM")) throw error;
  }
  const fd = openAt(dirFd, arg, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    for (const child of childrenOf(fd)) removeTree(fd, child, depth + 1);
  } finally {
    closeSync(fd);
  }
  return unlinkAt(dirFd, arg, { directory: true });
}

/** The names in an open directory, as byte strings. */
export function childrenOf(fd: number): string[] {
  return readdirSync(`/proc/self/fd/${fd}`, "latin1");
}
