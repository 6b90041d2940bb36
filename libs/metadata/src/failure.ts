/** SQLite's result codes as Berth's codes and reasons. Plain records, for they cross from the writer thread. */

export interface Failure {
  readonly code: string;
  readonly reason: string;
  readonly message: string;
}

/** An error that is to leave the writer thread as it is. */
export class FailureError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** What an error of node:sqlite means to a caller. `path` is the file, which messages name. */
export function failureOf(error: unknown, path: string): Failure {
  if (error instanceof FailureError) return error.failure;
  const text = error instanceof Error ? error.message : String(error);
  const extended = resultCode(error);
  if (extended === undefined) return { code: "INTERNAL", reason: "METADATA_STATEMENT", message: `metadata: ${text}` };
  const { code, reason } = EXTENDED[extended] ?? PRIMARY[extended & 0xff] ?? STATEMENT;
  return { code, reason, message: `metadata "${path}": ${text}${HINT[reason] ?? ""}` };
}

/** SQLite's extended result code, if the error came from SQLite. */
function resultCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode : undefined;
}

type Meaning = Omit<Failure, "message">;

const STATEMENT: Meaning = { code: "INTERNAL", reason: "METADATA_STATEMENT" };
const DISK_FULL: Meaning = { code: "RESOURCE_EXHAUSTED", reason: "METADATA_DISK_FULL" };
const CORRUPT: Meaning = { code: "DATA_LOSS", reason: "METADATA_CORRUPT" };
const DUPLICATE: Meaning = { code: "ALREADY_EXISTS", reason: "METADATA_CONSTRAINT" };

/** https://www.sqlite.org/rescode.html */
const PRIMARY: Readonly<Record<number, Meaning>> = {
  5: { code: "UNAVAILABLE", reason: "METADATA_BUSY" },
  6: { code: "UNAVAILABLE", reason: "METADATA_BUSY" },
  8: { code: "FAILED_PRECONDITION", reason: "METADATA_READ_ONLY" },
  10: { code: "DATA_LOSS", reason: "METADATA_IO" },
  11: CORRUPT,
  13: DISK_FULL,
  14: { code: "FAILED_PRECONDITION", reason: "METADATA_UNOPENABLE" },
  19: { code: "FAILED_PRECONDITION", reason: "METADATA_CONSTRAINT_OTHER" },
  26: CORRUPT,
};

const EXTENDED: Readonly<Record<number, Meaning>> = {
  787: { code: "FAILED_PRECONDITION", reason: "METADATA_FOREIGN_KEY" },
  1555: DUPLICATE,
  2067: DUPLICATE,
  2579: DUPLICATE,
  // SQLITE_IOERR_SHMSIZE: the wal-index could not grow, which on a full disk is how ENOSPC shows.
  4874: DISK_FULL,
};

const HINT: Readonly<Record<string, string>> = {
  METADATA_CORRUPT: "; restore the newest backup, or move the file away to begin with an empty one",
  METADATA_DISK_FULL: "; free some space on its file system",
};
