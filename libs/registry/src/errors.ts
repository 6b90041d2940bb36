/** Turns what servers and sockets answer into StatusErrors that name the registry, the repository and the way out. */
import { abortReason, StatusError, type StatusErrorOptions } from "@berth/base";
import type { RegistryHost } from "./registry.ts";

/** What a request was about, for its errors. */
export interface Subject {
  readonly host: RegistryHost;
  /** `10.0.0.1:5000/team/app:v1`, `blob sha256:… of 10.0.0.1:5000/team/app` */
  readonly what: string;
  readonly missing: { readonly reason: string };
}

const TLS_UNTRUSTED = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);
const NOT_TLS = new Set(["EPROTO", "ERR_SSL_WRONG_VERSION_NUMBER", "ERR_SSL_PACKET_LENGTH_TOO_LONG"]);

function fail(
  code: ConstructorParameters<typeof StatusError>[0],
  reason: string,
  subject: Subject,
  message: string,
  options: StatusErrorOptions = {},
): StatusError {
  return new StatusError(code, `${subject.what}: ${message}`, {
    reason,
    ...options,
    details: { registry: subject.host.host, ...options.details },
  });
}

/** A request that got no answer, or a body that broke off. */
export function fromSocket(error: unknown, subject: Subject, signal: AbortSignal | undefined): StatusError {
  if (error instanceof StatusError) return error;
  if (signal?.aborted) return abortReason(signal);
  const { host } = subject.host;
  const code = errorCode(error);
  if (NOT_TLS.has(code) || code.startsWith("ERR_SSL_")) {
    const hint = `registry ${host} does not answer TLS; does it speak plain HTTP? then set registries.${host}.plainHttp`;
    return fail("FAILED_PRECONDITION", "REGISTRY_TLS", subject, hint, { cause: error });
  }
  if (TLS_UNTRUSTED.has(code)) {
    const hint = `certificate of registry ${host} is not trusted (${code}); set registries.${host}.ca to its CA`;
    return fail("FAILED_PRECONDITION", "REGISTRY_TLS", subject, hint, { cause: error });
  }
  const why = describeSocket(error, code);
  const hint = `cannot reach registry ${host} (${why}); check the name, the network and that it runs`;
  return fail("UNAVAILABLE", "REGISTRY_UNREACHABLE", subject, hint, { cause: error });
}

/** A body that broke off after it had begun. */
export function fromBrokenBody(error: unknown, subject: Subject, signal: AbortSignal | undefined): StatusError {
  if (error instanceof StatusError) return error;
  if (signal?.aborted) return abortReason(signal);
  const why = describeSocket(error, errorCode(error));
  return fail(
    "UNAVAILABLE",
    "TRANSFER_BROKEN",
    subject,
    `registry ${subject.host.host} broke off the transfer (${why})`,
    {
      cause: error,
    },
  );
}

export function stalled(subject: Subject, bytes: number, windowMs: number): StatusError {
  const text = `registry ${subject.host.host} sent ${bytes} bytes in ${windowMs} ms; given up as stalled`;
  return fail("DEADLINE_EXCEEDED", "TRANSFER_STALLED", subject, text);
}

/** An answer that is not what was asked for. `said` is what the server wrote about it. */
export function fromAnswer(
  status: number,
  retryAfterMs: number | undefined,
  said: string,
  subject: Subject,
): StatusError {
  const { host, credentials, plainHttp } = subject.host;
  const quoted = said === "" ? "" : `: ${said}`;
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (status === 401) return denied("UNAUTHENTICATED", subject, quoted);
  if (status === 403) return denied("PERMISSION_DENIED", subject, quoted);
  if (status === 404) {
    const hint = credentials === undefined ? "; if it is private, configure credentials" : "";
    return fail("NOT_FOUND", subject.missing.reason, subject, `not found in registry ${host}${quoted}${hint}`);
  }
  if (status === 429) {
    const text = `registry ${host} limits the rate of requests${quoted}; wait, or configure credentials or a mirror`;
    return fail("RESOURCE_EXHAUSTED", "REGISTRY_RATE_LIMITED", subject, text, wait);
  }
  if (status >= 500 || status === 408) {
    return fail("UNAVAILABLE", "REGISTRY_UNREACHABLE", subject, `registry ${host} answered ${status}${quoted}`, wait);
  }
  const https =
    status === 400 && plainHttp === true ? `; does it want HTTPS? then unset registries.${host}.plainHttp` : "";
  const text = `registry ${host} answered ${status}${quoted}${https}`;
  return fail("FAILED_PRECONDITION", "REGISTRY_ANSWER_INVALID", subject, text);
}

export function notARegistry(subject: Subject, why: string, reason = "REGISTRY_ANSWER_INVALID"): StatusError {
  const hint = "is this a registry, or a proxy or login page in between?";
  return fail("INVALID_ARGUMENT", reason, subject, `registry ${subject.host.host} ${why}; ${hint}`);
}

export function mismatch(subject: Subject, reason: string, message: string): StatusError {
  return fail("DATA_LOSS", reason, subject, message);
}

export function refused(subject: Subject, reason: string, message: string): StatusError {
  return fail("FAILED_PRECONDITION", reason, subject, message);
}

function denied(code: "UNAUTHENTICATED" | "PERMISSION_DENIED", subject: Subject, quoted: string): StatusError {
  const { host, credentials } = subject.host;
  const hint =
    credentials === undefined
      ? `it is private or does not exist; configure credentials for ${host}`
      : `check the credentials of ${JSON.stringify(credentials.username)} for ${host} and their rights`;
  return fail(code, "REGISTRY_DENIED", subject, `registry ${host} denied access${quoted}; ${hint}`);
}

function describeSocket(error: unknown, code: string): string {
  const message = error instanceof Error ? error.message : String(error);
  return code === "" || message.includes(code) ? message : `${code}: ${message}`;
}

/** The code of an error or of what lies beneath it (undici and AggregateError wrap). */
function errorCode(error: unknown): string {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; depth += 1) {
    const code = (at as NodeJS.ErrnoException).code;
    if (typeof code === "string") return code;
    at = at instanceof AggregateError ? at.errors[0] : at.cause;
  }
  return "";
}
