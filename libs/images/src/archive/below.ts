/**
 * What extraction asks of and tells to whoever keeps account of the layers below: `whiteouts.ts` does it on the mounted chain,
 * `detached.ts` where there is no chain yet.
 */
import type { Timestamp } from "@berth/linux";
import type { EntryPath } from "./names.ts";

export interface DirectoryTimes {
  readonly accessed: Timestamp;
  readonly modified: Timestamp;
}

/** What lies below a layer while it is written. Directories are named as `Directories.canonical` gives them. */
export interface Below {
  /** A whiteout. */
  hide(parent: number, directory: string, base: string): void;
  /** An opaque marker. */
  hideAll(directoryFd: number, directory: string): void;
  /** An entry of the layer is there. */
  wrote(directory: string, base: string, isDirectory: boolean): void;
  /** A directory of this name was removed, to make place for an entry. */
  removed(directory: string, base: string): void;
  /** An entry made a directory where something else was removed. */
  replacedByDirectory(fd: number, directory: string, base: string): void;
  /** Makes a directory that no entry describes yet, 0755 but for the umask; false if something else has its name. */
  invent?(parent: number, directory: string, base: string): boolean;
  /** A directory is about to be written in; O_PATH. */
  entered?(fd: number, directory: string): void;
  /** Directories that were only passed through, with the times they had. */
  passed?(): Iterable<{ readonly path: EntryPath; readonly times: DirectoryTimes }>;
}
