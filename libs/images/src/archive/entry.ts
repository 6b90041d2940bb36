/**
 * What one entry of a tar archive says.
 *
 * Names are *byte strings*: one character per byte (latin1), because archives hold bytes, not text. For ASCII, which is
 * nearly all of them, that is the text itself; {@link pathArg} makes of it what a system call takes.
 */
import { StatusError } from "@berth/base";
import type { Timestamp } from "@berth/linux";

export type EntryType = "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";

/** A run of data in a file with holes. */
export interface SparseRun {
  readonly offset: number;
  readonly length: number;
}

export interface TarEntry {
  /** As it stands in the archive, a byte string; not to be trusted. */
  readonly name: string;
  readonly type: EntryType;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of the file as it shall be, holes included. 0 for all but files. */
  readonly sizeBytes: number;
  readonly modified: Timestamp;
  /** Undefined where the archive does not say. */
  readonly accessed: Timestamp | undefined;
  /** Target of a symbolic or hard link, a byte string. */
  readonly linkName: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Names are text, values bytes. */
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** Where the data goes in a file with holes; undefined: from 0 on, without holes. */
  readonly sparse: readonly SparseRun[] | undefined;
}

/** What may at most be in an archive; far above what real layers have. */
export interface ArchiveLimits {
  readonly maxEntries: number;
  /** Data of all files together. */
  readonly maxTotalBytes: number;
  readonly maxNameBytes: number;
  readonly maxPathDepth: number;
  /** One pax header, one long name or one sparse map. */
  readonly maxHeaderBytes: number;
  /** How many times its compressed size a layer may have; counted once more than `ratioFreeBytes` came out. */
  readonly maxRatio: number;
  readonly ratioFreeBytes: number;
  /** Comparisons of names that whiteouts and replaced directories may cost in all, see `whiteouts.ts`. */
  readonly maxHidingSteps: number;
}

export const defaultArchiveLimits: ArchiveLimits = {
  maxEntries: 4_000_000,
  maxTotalBytes: 1024 ** 4,
  maxNameBytes: 4096,
  maxPathDepth: 256,
  maxHeaderBytes: 1024 * 1024,
  // gzip cannot do better than 1032, so that a layer of zeros gets through; a zstd bomb has ratios of some ten thousands.
  maxRatio: 1100,
  ratioFreeBytes: 1024 ** 3,
  maxHidingSteps: 100_000_000,
};

/** An archive that is damaged, hostile or of a kind nobody here reads: INVALID_ARGUMENT `LAYER_INVALID`. */
export function invalidArchive(message: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", message, { reason: "LAYER_INVALID" });
}

/** An archive beyond a limit, a bomb perhaps: INVALID_ARGUMENT `LAYER_TOO_LARGE`. */
export function archiveTooLarge(message: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", message, { reason: "LAYER_TOO_LARGE" });
}

/** Does an error say that the archive is to blame, and not this host? */
export function isArchiveFault(error: StatusError): boolean {
  return error.reason === "LAYER_INVALID" || error.reason === "LAYER_TOO_LARGE";
}

/** A byte string as an argument of a system call. */
export function pathArg(name: string): string | Buffer {
  return isAscii(name) ? name : Buffer.from(name, "latin1");
}

/** A byte string for people: as UTF-8 where it is, quoted, and not too long. */
export function showName(name: string): string {
  const text = isAscii(name) ? name : Buffer.from(name, "latin1").toString("utf8");
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

function isAscii(name: string): boolean {
  // oxlint-disable-next-line no-control-regex -- all of ASCII is meant, control characters included
  return !/[^\x00-\x7f]/.test(name);
}
