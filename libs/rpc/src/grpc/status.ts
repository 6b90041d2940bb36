/**
 * StatusError on the wire of gRPC: code and message are gRPC's own; reason, details, violations and the time to wait travel
 * as JSON in the trailer `berth-error-bin`, bounded so that trailers stay below the 16 KiB that peers take.
 */
import type { Metadata, ServiceError } from "@grpc/grpc-js";
import { StatusError, STATUS_CODES, type FieldViolation, type StatusCode } from "@berth/base";

export const ERROR_TRAILER = "berth-error-bin";
export const REQUEST_ID_TRAILER = "berth-request-id";
const MAX_MESSAGE = 2048;
const MAX_TRAILER_BYTES = 6144;

interface ErrorTrailer {
  readonly reason: string;
  readonly details?: StatusError["details"];
  readonly violations?: readonly FieldViolation[];
  readonly retryAfterMs?: number;
}

export function codeNumber(code: StatusCode): number {
  return STATUS_CODES.indexOf(code);
}

export function encodeTrailer(error: StatusError): Buffer {
  const violations = [...error.violations];
  for (;;) {
    const trailer: ErrorTrailer = {
      reason: error.reason,
      ...(Object.keys(error.details).length === 0 ? {} : { details: error.details }),
      ...(violations.length === 0 ? {} : { violations }),
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    };
    const bytes = Buffer.from(JSON.stringify(trailer));
    if (bytes.length <= MAX_TRAILER_BYTES) return bytes;
    if (violations.pop() === undefined) return Buffer.from(JSON.stringify({ reason: error.reason }));
  }
}

/** gRPC's details text of an error. */
export function statusMessage(error: StatusError): string {
  return error.message.length <= MAX_MESSAGE ? error.message : `${error.message.slice(0, MAX_MESSAGE - 1)}…`;
}

/**
 * The error that the other side threw, as far as it travelled; for another server's errors, the code and message. Where
 * grpc-js itself found nobody at the endpoint: UNAVAILABLE `ENDPOINT_UNREACHABLE`, which names it.
 */
export function errorFromGrpc(error: unknown, endpoint: string): StatusError {
  if (error instanceof StatusError) return error;
  if (!isServiceError(error)) return StatusError.from(error);
  const code = STATUS_CODES[error.code];
  if (code === undefined || code === "OK") return new StatusError("UNKNOWN", error.details, { cause: error });
  const trailer = decodeTrailer(error.metadata);
  if (code === "UNAVAILABLE" && trailer.reason === undefined) {
    const why = connectionProblem(error.details);
    return new StatusError(code, `${endpoint} cannot be reached (${why})`, {
      reason: "ENDPOINT_UNREACHABLE",
      details: { endpoint, why },
      cause: error,
    });
  }
  return new StatusError(code, error.details, { ...trailer, cause: error });
}

/** What went wrong, out of grpc-js's sentence about it. */
function connectionProblem(details: string): string {
  if (details.startsWith("Name resolution failed")) return "its name does not resolve";
  if (details.includes("Protocol error")) return "what listens there does not speak gRPC";
  const last = /Last error: (?:Error: )?(.*?)(?: \(\d{4}-[^)]*\))?\.? Resolution note: /s.exec(details)?.[1];
  return last ?? details;
}

function decodeTrailer(metadata: Metadata | undefined): Partial<ErrorTrailer> {
  const [bytes] = metadata?.get(ERROR_TRAILER) ?? [];
  if (!Buffer.isBuffer(bytes)) return {};
  try {
    const value = JSON.parse(bytes.toString("utf8")) as unknown;
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as ServiceError).code === "number" && "details" in error;
}
