/** Content digests: `sha256:<64 hex>` or `sha512:<128 hex>`, as OCI's image spec defines them. */
import { createHash, type Hash } from "node:crypto";
import { StatusError } from "./status-error.ts";

declare const digestBrand: unique symbol;
/** A well-formed digest. Make one with {@link parseDigest} or {@link digestOf}. */
export type Digest = string & { readonly [digestBrand]: true };

const HEX_LENGTH: Readonly<Record<string, number>> = { sha256: 64, sha512: 128 };
const DIGEST = /^([a-z0-9]+):([a-f0-9]+)$/;

export function isDigest(text: string): text is Digest {
  const match = DIGEST.exec(text);
  return match !== null && HEX_LENGTH[match[1]!] === match[2]!.length;
}

/** @throws INVALID_ARGUMENT `DIGEST_INVALID` for anything else than a known algorithm with lower-case hex of its length. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new StatusError(
    "INVALID_ARGUMENT",
    `digest ${JSON.stringify(text)} is not of the form sha256:<64 hex digits>`,
    {
      reason: "DIGEST_INVALID",
    },
  );
}

export function digestAlgorithm(digest: Digest): "sha256" | "sha512" {
  return digest.slice(0, digest.indexOf(":")) as "sha256" | "sha512";
}

export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

export function digestOf(data: string | Uint8Array): Digest {
  return toDigest(createHash("sha256").update(data));
}

/** Ends a running sha256 hash and gives its digest. */
export function toDigest(hash: Hash, algorithm: "sha256" | "sha512" = "sha256"): Digest {
  return `${algorithm}:${hash.digest("hex")}` as Digest;
}
