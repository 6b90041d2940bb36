/** Postgres' errors in our words, so that no caller reads SQLSTATEs. */
import { StatusError, type StatusCode } from "@berth/base";
import { DrizzleQueryError } from "drizzle-orm";
import postgres from "postgres";

const BY_STATE: Readonly<Record<string, { readonly code: StatusCode; readonly reason: string }>> = {
  // A standby that has the primary's address, and is not promoted yet.
  "25006": { code: "UNAVAILABLE", reason: "STORE_READ_ONLY" },
  "23505": { code: "ALREADY_EXISTS", reason: "STORE_DUPLICATE" },
  "23502": { code: "INVALID_ARGUMENT", reason: "STORE_VALUE_INVALID" },
  "22P05": { code: "INVALID_ARGUMENT", reason: "STORE_VALUE_INVALID" },
  "22021": { code: "INVALID_ARGUMENT", reason: "STORE_VALUE_INVALID" },
  "40001": { code: "ABORTED", reason: "STORE_CONFLICT" },
  "40P01": { code: "ABORTED", reason: "STORE_CONFLICT" },
  "53100": { code: "RESOURCE_EXHAUSTED", reason: "STORE_DISK_FULL" },
  "53300": { code: "UNAVAILABLE", reason: "STORE_BUSY" },
  "55P03": { code: "ABORTED", reason: "STORE_CONFLICT" },
  "57014": { code: "DEADLINE_EXCEEDED", reason: "STORE_TIMEOUT" },
  "25P03": { code: "DEADLINE_EXCEEDED", reason: "STORE_TIMEOUT" },
};
/** Classes of which every state means that the server or the way to it is away. */
const AWAY = /^(08|57P)/;
const CLIENT_AWAY = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
]);

/** The nearest code: UNAVAILABLE `STORE_UNAVAILABLE` while Postgres is away, ABORTED `STORE_CONFLICT` where trying again is right. */
export function storeError(error: unknown): StatusError {
  const origin = originOf(error);
  if (origin instanceof StatusError) return origin;
  const state = (origin as { code?: unknown }).code;
  const message = `store: ${origin instanceof Error ? origin.message : String(origin)}`;
  if (typeof state === "string") {
    const known = BY_STATE[state];
    if (known !== undefined) return new StatusError(known.code, message, { reason: known.reason, cause: origin });
    if (AWAY.test(state) || CLIENT_AWAY.has(state)) {
      return new StatusError("UNAVAILABLE", message, { reason: "STORE_UNAVAILABLE", cause: origin });
    }
  }
  if (origin instanceof postgres.PostgresError) {
    return new StatusError("INTERNAL", message, { reason: "STORE_FAILED", cause: origin });
  }
  return StatusError.from(origin, "store");
}

/** drizzle wraps what the driver throws; the parameters in its message may be secrets, so it is left behind. */
function originOf(error: unknown): unknown {
  return error instanceof DrizzleQueryError && error.cause !== undefined ? error.cause : error;
}
