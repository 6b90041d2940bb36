/**
 * The one error class of Berth.
 *
 * `code` comes from gRPC's closed set, so that every layer (API, jobs, journal, CLI) can pass an error on without
 * translating it; `reason` is the stable, greppable name of what went wrong (`SNAPSHOT_PARENT_MISSING`); `violations`
 * name the offending fields of a request. Foreign errors are mapped by the adapter that met them, with
 * {@link StatusError.from} as the last resort.
 */

/** gRPC status codes by name, in wire order: the index is the number on the wire. */
export const STATUS_CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

export type StatusCode = Exclude<(typeof STATUS_CODES)[number], "OK">;

/** One wrong field of a request: a path such as `spec.resources.cpu` or `spec.env[2].name`, and what is wrong with it. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export interface StatusErrorOptions {
  /** Stable upper-case name, for programs. Defaults to the code. */
  readonly reason?: string;
  /** Small facts for programs and logs; never secrets. */
  readonly details?: Readonly<Record<string, string | number | boolean>>;
  readonly violations?: readonly FieldViolation[];
  /** How long a caller should wait before trying again, if it is worth trying. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** Thrown for every failure that a caller may want to tell apart. Messages: lower case, name the subject, no full stop. */
export class StatusError extends Error {
  override readonly name = "StatusError";
  readonly code: StatusCode;
  readonly reason: string;
  readonly details: Readonly<Record<string, string | number | boolean>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(code: StatusCode, message: string, options: StatusErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = options.reason ?? code;
    this.details = options.details ?? {};
    this.violations = options.violations ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }

  /** The same error, if it is one already; otherwise the nearest code for an errno, an abort or an unknown value. */
  static from(error: unknown, subject?: string): StatusError {
    if (error instanceof StatusError) return error;
    const message = error instanceof Error ? error.message : String(error);
    const text = subject === undefined ? message : `${subject}: ${message}`;
    if (error instanceof Error) {
      if (error.name === "AbortError") return new StatusError("CANCELLED", text, { cause: error });
      if (error.name === "TimeoutError") return new StatusError("DEADLINE_EXCEEDED", text, { cause: error });
      const errno = (error as NodeJS.ErrnoException).code;
      const code = errno === undefined ? undefined : CODE_BY_ERRNO[errno];
      if (errno !== undefined && code !== undefined) {
        return new StatusError(code, text, { reason: errno, cause: error });
      }
    }
    return new StatusError("UNKNOWN", text, { cause: error });
  }

  /** An INVALID_ARGUMENT that names the fields at fault. */
  static invalid(violations: readonly FieldViolation[], reason = "FIELD_INVALID"): StatusError {
    const text = violations.map((v) => `${v.field}: ${v.description}`).join("; ");
    return new StatusError("INVALID_ARGUMENT", text, { reason, violations });
  }
}

/** True for a StatusError with one of these codes. */
export function hasCode(error: unknown, ...codes: StatusCode[]): error is StatusError {
  return error instanceof StatusError && codes.includes(error.code);
}

/** Is it sensible to try the same thing again later? */
export function isTransient(error: unknown): boolean {
  return hasCode(error, "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED");
}

const CODE_BY_ERRNO: Readonly<Record<string, StatusCode>> = {
  ENOENT: "NOT_FOUND",
  ESRCH: "NOT_FOUND",
  EEXIST: "ALREADY_EXISTS",
  EACCES: "PERMISSION_DENIED",
  EPERM: "PERMISSION_DENIED",
  EROFS: "FAILED_PRECONDITION",
  ENOTEMPTY: "FAILED_PRECONDITION",
  EBUSY: "UNAVAILABLE",
  EAGAIN: "UNAVAILABLE",
  ENOSPC: "RESOURCE_EXHAUSTED",
  EDQUOT: "RESOURCE_EXHAUSTED",
  EMFILE: "RESOURCE_EXHAUSTED",
  ENFILE: "RESOURCE_EXHAUSTED",
  ENOMEM: "RESOURCE_EXHAUSTED",
  EINVAL: "INVALID_ARGUMENT",
  ENAMETOOLONG: "INVALID_ARGUMENT",
  EXDEV: "INVALID_ARGUMENT",
  ECONNREFUSED: "UNAVAILABLE",
  ECONNRESET: "UNAVAILABLE",
  EPIPE: "UNAVAILABLE",
  EHOSTUNREACH: "UNAVAILABLE",
  ENETUNREACH: "UNAVAILABLE",
  ENOTFOUND: "UNAVAILABLE",
  EAI_AGAIN: "UNAVAILABLE",
  ETIMEDOUT: "DEADLINE_EXCEEDED",
  EIO: "DATA_LOSS",
};
