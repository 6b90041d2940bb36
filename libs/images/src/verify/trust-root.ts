/**
 * A sigstore trusted root (`trusted_root.json`, dev.sigstore.trustroot.v1) as what @sigstore/verify takes: the certificate
 * authorities, logs and time-stampers that a keyless policy believes. It is configuration: what is wrong with it is said
 * with its field.
 */
import { StatusError } from "@berth/base";
import { toTrustMaterial, type TrustMaterial } from "@sigstore/verify";
import { objectOf, parseJson } from "./material.ts";

type TrustedRoot = Parameters<typeof toTrustMaterial>[0];
type Authority = TrustedRoot["certificateAuthorities"][number];
type Log = TrustedRoot["tlogs"][number];

/** Names and numbers of sigstore's PublicKeyDetails, of which only those for RSA make a difference to the verifier. */
const KEY_DETAILS: Readonly<Record<string, number>> = {
  PKCS1_RSA_PKCS1V5: 1,
  PKIX_RSA_PKCS1V5: 3,
  PKIX_ECDSA_P256_SHA_256: 5,
  PKIX_ED25519: 7,
  PKIX_RSA_PKCS1V15_2048_SHA256: 9,
  PKIX_RSA_PKCS1V15_3072_SHA256: 10,
  PKIX_RSA_PKCS1V15_4096_SHA256: 11,
  PKIX_ECDSA_P384_SHA_384: 12,
  PKIX_ECDSA_P521_SHA_512: 13,
};
const SHA2_256 = 1;

/** @throws INVALID_ARGUMENT `TRUST_ROOT_INVALID` */
export function parseTrustRoot(text: string): TrustMaterial {
  const root = objectOf(parseJson(text));
  if (root === undefined) throw invalid("it", "is not a JSON object");
  const authorities = list(root, "certificateAuthorities", "").map(authority);
  if (authorities.length === 0) throw invalid("certificateAuthorities", "is empty");
  const built: TrustedRoot = {
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    certificateAuthorities: authorities,
    timestampAuthorities: list(root, "timestampAuthorities", "").map(authority),
    tlogs: list(root, "tlogs", "").map(log),
    ctlogs: list(root, "ctlogs", "").map(log),
  };
  try {
    return toTrustMaterial(built);
  } catch (error) {
    throw invalid("it", "has a certificate or key that cannot be read", error);
  }
}

interface Item {
  readonly path: string;
  readonly value: Readonly<Record<string, unknown>>;
}

function authority(item: Item): Authority {
  const chain = list(field(item, "certChain").value, "certificates", `${item.path}.certChain.`);
  if (chain.length === 0) throw invalid(`${item.path}.certChain.certificates`, "is empty");
  return {
    subject: undefined,
    uri: optionalText(item, "uri"),
    operator: optionalText(item, "operator"),
    certChain: { certificates: chain.map((certificate) => ({ rawBytes: bytes(certificate, "rawBytes") })) },
    validFor: validity(item),
  };
}

function log(item: Item): Log {
  const key = field(item, "publicKey");
  const details = optionalText(key, "keyDetails");
  const keyDetails = KEY_DETAILS[details];
  if (keyDetails === undefined) {
    throw invalid(`${key.path}.keyDetails`, `is not one of ${Object.keys(KEY_DETAILS).join(", ")}`);
  }
  const checkpoint = item.value["checkpointKeyId"];
  // The generated types want their own enums, which that package does not export.
  const built: unknown = {
    baseUrl: optionalText(item, "baseUrl"),
    hashAlgorithm: SHA2_256,
    operator: optionalText(item, "operator"),
    publicKey: { rawBytes: bytes(key, "rawBytes"), keyDetails, validFor: validity(key) },
    logId: { keyId: bytes(field(item, "logId"), "keyId") },
    checkpointKeyId: checkpoint === undefined ? undefined : { keyId: bytes(field(item, "checkpointKeyId"), "keyId") },
  };
  return built as Log;
}

function validity(item: Item): Authority["validFor"] {
  const validFor = objectOf(item.value["validFor"]);
  if (validFor === undefined) return undefined;
  const date = (name: string): Date | undefined => {
    const text = validFor[name];
    if (text === undefined) return undefined;
    const value = new Date(typeof text === "string" ? text : Number.NaN);
    if (Number.isNaN(value.getTime())) throw invalid(`${item.path}.validFor.${name}`, "is not a time");
    return value;
  };
  return { start: date("start"), end: date("end") };
}

function list(object: Readonly<Record<string, unknown>>, name: string, prefix: string): Item[] {
  const value = object[name] ?? [];
  if (!Array.isArray(value)) throw invalid(prefix + name, "is not a list");
  return value.map((entry: unknown, index) => {
    const path = `${prefix}${name}[${index}]`;
    const fields = objectOf(entry);
    if (fields === undefined) throw invalid(path, "is not an object");
    return { path, value: fields };
  });
}

function field(item: Item, name: string): Item {
  const value = objectOf(item.value[name]);
  if (value === undefined) throw invalid(`${item.path}.${name}`, "is missing");
  return { path: `${item.path}.${name}`, value };
}

function bytes(item: Item, name: string): Buffer<ArrayBuffer> {
  const text = item.value[name];
  if (typeof text !== "string" || text === "") throw invalid(`${item.path}.${name}`, "is missing");
  return Buffer.from(text, "base64");
}

function optionalText(item: Item, name: string): string {
  const text = item.value[name];
  return typeof text === "string" ? text : "";
}

function invalid(name: string, why: string, cause?: unknown): StatusError {
  return new StatusError("INVALID_ARGUMENT", `trust root: ${name} ${why}`, {
    reason: "TRUST_ROOT_INVALID",
    violations: [{ field: name, description: why }],
    cause,
  });
}
