/** A failure as the error that callers catch. Apart from failure.ts, which the threads load and which loads nothing. */
import { STATUS_CODES, StatusError, type StatusCode } from "@berth/base";
import type { Failure } from "./failure.ts";

export function toStatusError(failure: Failure, cause?: unknown): StatusError {
  const known = (STATUS_CODES as readonly string[]).includes(failure.code) && failure.code !== "OK";
  const code = known ? (failure.code as StatusCode) : "INTERNAL";
  return new StatusError(code, failure.message, { reason: failure.reason, cause });
}
