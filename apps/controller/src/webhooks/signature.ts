/** Signatures as Standard Webhooks has them: HMAC-SHA256 over `id.timestamp.body`, by each secret that is valid. */
import { createHmac, randomBytes } from "node:crypto";

const PREFIX = "whsec_";
const SECRET_BYTES = 32;
/** What the specification asks for. */
const LEAST_BYTES = 24;
const MOST_BYTES = 64;

export function makeSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString("base64");
}

/** How a secret is wrong, as the end of a sentence; undefined for a good one. Says nothing of what it is. */
export function secretProblem(secret: string): string | undefined {
  if (!secret.startsWith(PREFIX)) return `does not begin with ${PREFIX}`;
  const text = secret.slice(PREFIX.length);
  const key = Buffer.from(text, "base64");
  if (key.toString("base64").replace(/=+$/, "") !== text.replace(/=+$/, "")) return "is not base64";
  if (key.length < LEAST_BYTES || key.length > MOST_BYTES)
    return `holds ${key.length} bytes; use ${LEAST_BYTES} to ${MOST_BYTES}`;
  return undefined;
}

/** The three headers. @param secrets the newest first */
export function signedHeaders(
  secrets: readonly string[],
  message: { readonly id: string; readonly atSeconds: number; readonly body: string },
): Record<string, string> {
  const { id, atSeconds, body } = message;
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.slice(PREFIX.length), "base64");
    return `v1,${createHmac("sha256", key).update(`${id}.${atSeconds}.${body}`).digest("base64")}`;
  });
  return { "webhook-id": id, "webhook-timestamp": String(atSeconds), "webhook-signature": signatures.join(" ") };
}
