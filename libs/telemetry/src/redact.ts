/**
 * What a log line may show of a value: secrets are taken out by the name of their field and from the user part of URLs;
 * errors become plain objects with code and reason.
 *
 * This is the net below the rule, not the rule: code does not log secrets.
 */
import { StatusError } from "@berth/base";

const SECRET_KEY = /^(authorization|cookie|pass|passphrase)$|password$|secret$|token$|privatekey$/i;
const URL_CREDENTIALS = /\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@:]*:[^\s/@]*@/gi;
const BEARER = /\bbrt_([0-9a-z]+)_[0-9A-Za-z_-]+/g;
const REDACTED = "[redacted]";
const MAX_DEPTH = 6;

/** A copy that is safe to write down. Depth is bounded; cycles end there. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return redactText(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Error) return redactError(value, depth);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (depth >= MAX_DEPTH) return "[deeper]";
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, redactField(key, inner, depth)]));
}

function redactField(key: string, inner: unknown, depth: number): unknown {
  if (SECRET_KEY.test(key) && inner !== undefined && inner !== null && inner !== "") return REDACTED;
  return redact(inner, depth + 1);
}

function redactText(text: string): string {
  return text.replace(URL_CREDENTIALS, `$1${REDACTED}@`).replace(BEARER, `brt_$1_${REDACTED}`);
}

function redactError(error: Error, depth: number): Record<string, unknown> {
  const own: Record<string, unknown> = { type: error.name, message: redactText(error.message) };
  if (error instanceof StatusError) {
    own["code"] = error.code;
    own["reason"] = error.reason;
    if (Object.keys(error.details).length > 0) own["details"] = redact(error.details, depth + 1);
  }
  if (error.stack !== undefined) own["stack"] = redactText(error.stack);
  if (error.cause !== undefined && depth < MAX_DEPTH) own["cause"] = redact(error.cause, depth + 1);
  return own;
}
