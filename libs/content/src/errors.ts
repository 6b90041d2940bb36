/** The errors of the content store, worded once for every implementation. */
import { StatusError, type Digest } from "@berth/base";

export function contentMissing(namespace: string, digest: Digest): StatusError {
  return new StatusError("NOT_FOUND", `content ${digest} is not in namespace "${namespace}"`, {
    reason: "CONTENT_MISSING",
  });
}

export function contentExists(namespace: string, digest: Digest): StatusError {
  return new StatusError("ALREADY_EXISTS", `content ${digest} is in namespace "${namespace}" already`, {
    reason: "CONTENT_EXISTS",
  });
}

export function contentTooLarge(digest: Digest, sizeBytes: number, maxBytes: number): StatusError {
  return new StatusError(
    "RESOURCE_EXHAUSTED",
    `content ${digest} has ${sizeBytes} bytes, more than the ${maxBytes} allowed here`,
    {
      reason: "CONTENT_TOO_LARGE",
    },
  );
}

/** The rows promise bytes that the disk does not have (any more). */
export function contentLost(digest: Digest, what: string, cause?: unknown): StatusError {
  return new StatusError("DATA_LOSS", `content ${digest}: ${what}; delete it and pull it again`, {
    reason: "CONTENT_LOST",
    cause,
  });
}

export function digestMismatch(ref: string, wanted: Digest, actual: Digest): StatusError {
  return new StatusError("FAILED_PRECONDITION", `ingest "${ref}": the bytes have digest ${actual}, not ${wanted}`, {
    reason: "CONTENT_DIGEST_MISMATCH",
    details: { wanted, actual },
  });
}

export function sizeMismatch(ref: string, wantedBytes: number, actualBytes: number): StatusError {
  return new StatusError("FAILED_PRECONDITION", `ingest "${ref}" has ${actualBytes} bytes, not ${wantedBytes}`, {
    reason: "CONTENT_SIZE_MISMATCH",
    details: { wantedBytes, actualBytes },
  });
}

export interface IngestHolder {
  /** Who writes, as it called itself. */
  readonly holder: string | undefined;
  readonly sinceMs: number;
}

export function ingestLocked(namespace: string, ref: string, { holder, sinceMs }: IngestHolder): StatusError {
  const by = holder === undefined ? "another writer" : holder;
  const text = `ingest "${ref}" of namespace "${namespace}" is held by ${by} since ${new Date(sinceMs).toISOString()}; wait for it to end, or use another ref`;
  const details = { namespace, ref, sinceMs, ...(holder === undefined ? {} : { holder }) };
  return new StatusError("UNAVAILABLE", text, { reason: "INGEST_LOCKED", details });
}

export function ingestTooLarge(ref: string, limitBytes: number, what = ""): StatusError {
  return new StatusError(
    "RESOURCE_EXHAUSTED",
    `ingest "${ref}"${what} is larger than the ${limitBytes} bytes allowed`,
    {
      reason: "INGEST_TOO_LARGE",
      details: { limitBytes },
    },
  );
}

export function ingestMissing(namespace: string, ref: string): StatusError {
  return new StatusError("NOT_FOUND", `ingest "${ref}" is not in namespace "${namespace}"`, {
    reason: "INGEST_MISSING",
  });
}

export function ingestEnded(ref: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", `ingest "${ref}": this writer has ended; open another one`, {
    reason: "INGEST_ENDED",
  });
}

export function ingestDiffers(ref: string, what: string): StatusError {
  return new StatusError(
    "FAILED_PRECONDITION",
    `ingest "${ref}" was begun with another ${what}; abort it to begin again`,
    {
      reason: "INGEST_DIFFERS",
    },
  );
}

export function storeClosed(): StatusError {
  return new StatusError("UNAVAILABLE", "the content store is closed", { reason: "CONTENT_CLOSED" });
}

/** @throws INVALID_ARGUMENT for a namespace that cannot be a key here. */
export function checkNamespace(namespace: string): void {
  if (namespace !== "" && !namespace.includes("/")) return;
  throw StatusError.invalid([{ field: "namespace", description: "must not be empty nor hold a slash" }]);
}

export function checkRef(ref: string): void {
  if (ref !== "" && ref.length <= 4_096) return;
  throw StatusError.invalid([{ field: "ref", description: "must have 1 to 4096 characters" }]);
}

/** @throws OUT_OF_RANGE for an offset, length or size that is no natural number. */
export function checkNatural(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new StatusError("OUT_OF_RANGE", `${name} must be a whole number from 0, not ${value}`, {
    reason: "CONTENT_RANGE",
  });
}
