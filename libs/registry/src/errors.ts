/** Turns what servers and sockets answer into StatusErrors that name the registry, the repository and the way out. */
import { abortReason, StatusError, type StatusErrorOptions } from "@berth/base";
import { REFUSED_ADDRESS } from "./address.ts";
import type { Endpoint } from "./routes/endpoint.ts";

/** What a request was about, for its errors. */
export interface Subject {
  readonly endpoint: Endpoint;
  /** `10.0.0.1:5000/team/app:v1`, `blob sha256:… of 10.0.0.1:5000/team/app` */
  readonly what: string;
  readonly missing: { readonly reason: string };
  /** Whose credentials were used, if any are known. */
  readonly username: () => string | undefined;
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
    details: { registry: subject.endpoint.registry, endpoint: subject.endpoint.origin, ...options.details },
  });
}

/** The endpoint as messages call it. */
export function nameOf({ registry, origin, isOrigin }: Endpoint): string {
  return isOrigin ? `registry ${registry}` : `mirror ${origin} of registry ${registry}`;
}

/** A request that got no answer, or a body that broke off. */
export function fromSocket(error: unknown, subject: Subject, signal: AbortSignal | undefined): StatusError {
  if (error instanceof StatusError) return error;
  if (signal?.aborted) return abortReason(signal);
  const name = nameOf(subject.endpoint);
  const code = errorCode(error);
  const why = describeSocket(error, code);
  if (code === REFUSED_ADDRESS) return refused(subject, "REGISTRY_REDIRECTS", `${name} sends us elsewhere: ${why}`);
  if (code.startsWith("ERR_SSL_TLSV1") || code.startsWith("ERR_SSL_SSLV3_ALERT")) {
    const hint = `${name} ends the TLS handshake (${code}); does it want a client certificate? then configure one`;
    return fail("FAILED_PRECONDITION", "REGISTRY_TLS", subject, hint, { cause: error });
  }
  if (NOT_TLS.has(code) || code.startsWith("ERR_SSL_")) {
    const hint = `${name} does not answer TLS; does it speak plain HTTP? then ${plainHttpHint(subject.endpoint)}`;
    return fail("FAILED_PRECONDITION", "REGISTRY_TLS", subject, hint, { cause: error });
  }
  if (TLS_UNTRUSTED.has(code)) {
    const hint = `certificate of ${name} is not trusted (${code}); ${caHint(subject.endpoint)}`;
    return fail("FAILED_PRECONDITION", "REGISTRY_TLS", subject, hint, { cause: error });
  }
  // With TLS 1.3 a server that misses a client certificate may just close after the handshake.
  const { client, origin } = subject.endpoint;
  const closed = code === "UND_ERR_SOCKET" && origin.startsWith("https:") && client.length === 0;
  const certificate = closed ? ", and whether it wants a client certificate" : "";
  const hint = `cannot reach ${name} (${why}); check the name, the network and that it runs${certificate}`;
  return fail("UNAVAILABLE", "REGISTRY_UNREACHABLE", subject, hint, { cause: error });
}

/** A body that broke off after it had begun. */
export function fromBrokenBody(error: unknown, subject: Subject, signal: AbortSignal | undefined): StatusError {
  if (error instanceof StatusError) return error;
  if (signal?.aborted) return abortReason(signal);
  const why = describeSocket(error, errorCode(error));
  const text = `${nameOf(subject.endpoint)} broke off the transfer (${why})`;
  return fail("UNAVAILABLE", "TRANSFER_BROKEN", subject, text, { cause: error });
}

export function stalled(subject: Subject, bytes: number, windowMs: number): StatusError {
  const text = `${nameOf(subject.endpoint)} sent ${bytes} bytes in ${windowMs} ms; given up as stalled`;
  return fail("DEADLINE_EXCEEDED", "TRANSFER_STALLED", subject, text);
}

/** An upload that the server does not know any more; begun anew it may well succeed. */
export function uploadLost(subject: Subject): StatusError {
  const text = `${nameOf(subject.endpoint)} has dropped the upload after it was interrupted`;
  return fail("UNAVAILABLE", "UPLOAD_LOST", subject, text);
}

/** A short answer (a manifest, a token, an error) that took too long to come. */
export function tooSlow(subject: Subject, windowMs: number): StatusError {
  const text = `${nameOf(subject.endpoint)} did not finish a short answer within ${windowMs} ms; given up as stalled`;
  return fail("DEADLINE_EXCEEDED", "TRANSFER_STALLED", subject, text);
}

/** An answer that is not what was asked for. `said` is what the server wrote about it. */
export function fromAnswer(
  status: number,
  retryAfterMs: number | undefined,
  said: string,
  subject: Subject,
): StatusError {
  const name = nameOf(subject.endpoint);
  const quoted = said === "" ? "" : `: ${said}`;
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (status === 401) return denied("UNAUTHENTICATED", subject, quoted);
  if (status === 403) return denied("PERMISSION_DENIED", subject, quoted);
  if (status === 404) {
    const hint = subject.username() === undefined ? "; if it is private, configure credentials" : "";
    return fail("NOT_FOUND", subject.missing.reason, subject, `not found in ${name}${quoted}${hint}`);
  }
  if (status === 429) {
    const text = `${name} limits the rate of requests${quoted}; wait, or configure credentials or a mirror`;
    return fail("RESOURCE_EXHAUSTED", "REGISTRY_RATE_LIMITED", subject, text, wait);
  }
  if (status >= 500 || status === 408) {
    return fail("UNAVAILABLE", "REGISTRY_UNREACHABLE", subject, `${name} answered ${status}${quoted}`, wait);
  }
  const plain = subject.endpoint.origin.startsWith("http:");
  const https = status === 400 && plain ? `; does it want HTTPS? then ${httpsHint(subject.endpoint)}` : "";
  return fail("FAILED_PRECONDITION", "REGISTRY_ANSWER_INVALID", subject, `${name} answered ${status}${quoted}${https}`);
}

export function notARegistry(subject: Subject, why: string, reason = "REGISTRY_ANSWER_INVALID"): StatusError {
  const hint = "is this a registry, or a proxy or login page in between?";
  return fail("INVALID_ARGUMENT", reason, subject, `${nameOf(subject.endpoint)} ${why}; ${hint}`);
}

export function mismatch(subject: Subject, reason: string, message: string): StatusError {
  return fail("DATA_LOSS", reason, subject, message);
}

export function refused(subject: Subject, reason: string, message: string): StatusError {
  return fail("FAILED_PRECONDITION", reason, subject, message);
}

function denied(code: "UNAUTHENTICATED" | "PERMISSION_DENIED", subject: Subject, quoted: string): StatusError {
  const { host, registry, isOrigin } = subject.endpoint;
  const username = subject.username();
  const whose = isOrigin ? registry : host;
  const hint =
    username === undefined
      ? `it is private or does not exist; configure credentials for ${whose}`
      : `check the credentials of ${JSON.stringify(username)} for ${whose} and their rights`;
  return fail(code, "REGISTRY_DENIED", subject, `${nameOf(subject.endpoint)} denied access${quoted}; ${hint}`);
}

function plainHttpHint({ source, registry, host }: Endpoint): string {
  return source === undefined ? `set registries.${registry}.plainHttp` : `write it as http://${host} in ${source}`;
}

function httpsHint({ source, registry, host }: Endpoint): string {
  return source === undefined ? `unset registries.${registry}.plainHttp` : `write it as https://${host} in ${source}`;
}

function caHint({ source, registry, host }: Endpoint): string {
  return source === undefined ? `set registries.${registry}.ca to its CA` : `set ca for ${host} in ${source}`;
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
