/** StatusErrors across the bus: as headers of a reply, and NATS' own errors in our words. */
import { JetStreamError } from "@nats-io/jetstream";
import { errors, headers, type Msg, type MsgHdrs } from "@nats-io/transport-node";
import { STATUS_CODES, StatusError, type StatusCode } from "@berth/base";

const CODE = "Berth-Code";
const REASON = "Berth-Reason";

export function errorHeaders(error: StatusError): MsgHdrs {
  const result = headers();
  result.set(CODE, error.code);
  result.set(REASON, error.reason);
  return result;
}

/** The error a reply carries, if it carries one; its payload is the message. */
export function errorOfReply(message: Msg): StatusError | undefined {
  const code = message.headers?.get(CODE) ?? "";
  if (code === "") return undefined;
  return statusOf(code, message.string(), message.headers?.get(REASON));
}

/** A StatusError of a code's name, which may come from a newer peer. */
export function statusOf(codeName: string, message: string, reason?: string): StatusError {
  const known = STATUS_CODES.find((code) => code === codeName);
  const code: StatusCode = known === undefined || known === "OK" ? "UNKNOWN" : known;
  return new StatusError(code, message, reason === undefined || reason === "" ? {} : { reason });
}

/** The nearest code for what NATS or JetStream said. */
export function busError(error: unknown, subject: string): StatusError {
  if (error instanceof StatusError) return error;
  const cause = error instanceof errors.RequestError && error.cause !== undefined ? error.cause : error;
  const make = (code: StatusCode, reason: string, text: string): StatusError =>
    new StatusError(code, `${subject}: ${text}`, { reason, cause: error });
  if (cause instanceof errors.NoRespondersError || (error instanceof errors.RequestError && error.isNoResponders())) {
    return make("UNAVAILABLE", "BUS_NO_RESPONDERS", "nobody answers there just now");
  }
  if (cause instanceof errors.TimeoutError) return make("DEADLINE_EXCEEDED", "BUS_TIMEOUT", "no answer in time");
  if (cause instanceof errors.PermissionViolationError || cause instanceof errors.AuthorizationError) {
    return make("PERMISSION_DENIED", "BUS_DENIED", cause.message);
  }
  if (cause instanceof JetStreamError) return make("UNAVAILABLE", "BUS_JETSTREAM", cause.message);
  return make("UNAVAILABLE", "BUS_UNAVAILABLE", cause instanceof Error ? cause.message : String(cause));
}
