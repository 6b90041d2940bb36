/**
 * RFC 9457 problem documents. `code` and `reason` are those of gRPC and of StatusError, for programs; `detail` and
 * `violations` are for people. `type` is about:blank: the status and `reason` say what there is to say.
 */
import { STATUS_CODES as HTTP_TITLES } from "node:http";
import type { StatusCode, StatusError, FieldViolation } from "@berth/base";

export const PROBLEM_TYPE = "application/problem+json";

export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: StatusCode;
  readonly reason: string;
  readonly violations?: readonly FieldViolation[];
  readonly details?: StatusError["details"];
  /** Also in the server's log. */
  readonly requestId?: string;
}

/** As google.rpc.Code has them, but for FAILED_PRECONDITION, a conflict with the state of things. */
const HTTP_STATUS: Readonly<Record<StatusCode, number>> = {
  CANCELLED: 499,
  UNKNOWN: 500,
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 409,
  ABORTED: 409,
  OUT_OF_RANGE: 400,
  UNIMPLEMENTED: 501,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
  UNAUTHENTICATED: 401,
};

/** Where HTTP has a status of its own for what a code says in general. */
const STATUS_BY_REASON: Readonly<Record<string, number>> = {
  BODY_TOO_LARGE: 413,
  CONTENT_TYPE_UNSUPPORTED: 415,
  METHOD_NOT_ALLOWED: 405,
  NOT_ACCEPTABLE: 406,
  CURSOR_EXPIRED: 410,
};

export function problemOf(error: StatusError, requestId?: string): Problem {
  const status = STATUS_BY_REASON[error.reason] ?? HTTP_STATUS[error.code];
  return {
    type: "about:blank",
    title: HTTP_TITLES[status] ?? error.code,
    status,
    detail: error.message,
    code: error.code,
    reason: error.reason,
    ...(error.violations.length === 0 ? {} : { violations: error.violations }),
    ...(Object.keys(error.details).length === 0 ? {} : { details: error.details }),
    ...(requestId === undefined ? {} : { requestId }),
  };
}
