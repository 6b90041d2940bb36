/**
 * Bearer tokens: `brt_<id>_<secret>`.
 *
 * The id (a UUID, in base36) names the token to people, so that one can be revoked by what is left of it in a log; the secret
 * is 256 bits of randomness. Only a hash of the whole is stored, and found by. A plain
 * SHA-256 is enough for that: slow hashes such as argon2 exist to make guessing costly where secrets are guessable, and 256
 * random bits are not; a slow hash would only let strangers burn the controller's CPU. Comparing takes constant time.
 * The prefix lets scanners find leaked tokens.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { StatusError, uuidv7 } from "@berth/base";

const SECRET_BYTES = 32;
const TOKEN = /^brt_([0-9a-z]{1,25})_[0-9A-Za-z_-]{43}$/;

export interface NewToken {
  /** A UUID, for the row. */
  readonly id: string;
  /** What the caller keeps; shown once. */
  readonly text: string;
  /** What is stored: SHA-256 of the text, hex. */
  readonly hash: string;
}

/** A token as its bearer gave it. */
export interface PresentedToken {
  readonly id: string;
  readonly hash: string;
}

export function makeToken(): NewToken {
  const id = uuidv7();
  const text = `brt_${shortId(id)}_${randomBytes(SECRET_BYTES).toString("base64url")}`;
  return { id, text, hash: hashOf(text) };
}

/** @throws UNAUTHENTICATED `TOKEN_MALFORMED`; the text is never repeated */
export function parseToken(text: string): PresentedToken {
  const match = TOKEN.exec(text);
  const id = match === null ? undefined : longId(match[1]!);
  if (match === null || id === undefined) {
    throw new StatusError("UNAUTHENTICATED", "the token is malformed; it looks like brt_<id>_<secret>, copied whole", {
      reason: "TOKEN_MALFORMED",
    });
  }
  return { id, hash: hashOf(text) };
}

/** Whether two hashes are the same, without telling by time where they differ. */
export function sameHash(a: string, b: string): boolean {
  const left = Buffer.from(a, "hex");
  const right = Buffer.from(b, "hex");
  return left.length === right.length && left.length > 0 && timingSafeEqual(left, right);
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function shortId(uuid: string): string {
  return BigInt(`0x${uuid.replaceAll("-", "")}`).toString(36);
}

function longId(short: string): string | undefined {
  let value = 0n;
  for (const char of short) value = value * 36n + BigInt(Number.parseInt(char, 36));
  if (value >= 1n << 128n) return undefined;
  const hex = value.toString(16).padStart(32, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
