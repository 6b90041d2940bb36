/** Public keys of signers, and whether a signature is theirs. */
import { createHash, createPublicKey, verify, type KeyObject } from "node:crypto";
import { StatusError } from "@berth/base";

const MIN_RSA_BITS = 2048;

export interface SignerKey {
  readonly key: KeyObject;
  /** `sha256:` and the first hex digits of the key's SubjectPublicKeyInfo, for people. */
  readonly fingerprint: string;
}

/** @throws INVALID_ARGUMENT `POLICY_KEY_INVALID` for what is no public key, or of a kind that is not used for signing images */
export function parseSignerKey(pem: string): SignerKey {
  if (/-----BEGIN[A-Z ]* PRIVATE KEY-----/.test(pem)) throw keyInvalid("is a private key; give the public one");
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (error) {
    throw keyInvalid("is no PEM of a public key", error);
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  const usable =
    type === "ed25519" ||
    (type === "ec" && details?.namedCurve === "prime256v1") ||
    (type === "rsa" && (details?.modulusLength ?? 0) >= MIN_RSA_BITS);
  if (!usable) {
    const what = `${type}${details?.namedCurve === undefined ? "" : ` ${details.namedCurve}`}`;
    throw keyInvalid(
      `is a key of kind ${what}; ECDSA P-256, Ed25519 and RSA of at least ${MIN_RSA_BITS} bits can be used`,
    );
  }
  const spki = key.export({ type: "spki", format: "der" });
  return { key, fingerprint: `sha256:${createHash("sha256").update(spki).digest("hex").slice(0, 16)}` };
}

/** Over the payload as cosign signs it: SHA-256 with ECDSA (DER) and RSA (PKCS #1 v1.5), plain Ed25519. */
export function signatureHolds({ key }: SignerKey, payload: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(key.asymmetricKeyType === "ed25519" ? null : "sha256", payload, key, signature);
  } catch {
    // Not even the form of a signature.
    return false;
  }
}

function keyInvalid(why: string, cause?: unknown): StatusError {
  return new StatusError("INVALID_ARGUMENT", `policy key ${why}`, { reason: "POLICY_KEY_INVALID", cause });
}
