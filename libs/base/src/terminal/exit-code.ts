/** The exit code of a command line that failed with a status: the same in every program of ours. */
import type { StatusCode } from "../status-error.ts";

/**
 * 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 not allowed, 6 cannot be reached, 130 interrupted.
 * Each program documents its own table, and adds what only it knows.
 */
export function exitCodeOfStatus(code: StatusCode): number {
  switch (code) {
    case "INVALID_ARGUMENT":
    case "OUT_OF_RANGE":
      return 2;
    case "NOT_FOUND":
      return 3;
    case "ALREADY_EXISTS":
    case "ABORTED":
    case "FAILED_PRECONDITION":
      return 4;
    case "UNAUTHENTICATED":
    case "PERMISSION_DENIED":
      return 5;
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
      return 6;
    case "CANCELLED":
      return 130;
    case "UNKNOWN":
    case "RESOURCE_EXHAUSTED":
    case "UNIMPLEMENTED":
    case "INTERNAL":
    case "DATA_LOSS":
      return 1;
  }
}
