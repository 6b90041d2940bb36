/**
 * Signatures as they are found beside images, before anybody has said what they are worth; and what they claim.
 *
 * `simple-signing` is cosign's older form: a payload, its signature, and for keyless ones the certificate and the log's
 * promise beside it. `bundle` is sigstore's: one JSON with all of it. Everything here comes from strangers.
 */
import { digestAlgorithm, digestHex, type Digest } from "@berth/base";

export interface SimpleSigning {
  readonly kind: "simple-signing";
  readonly payload: Buffer;
  readonly signature: Buffer;
  /** PEM of the signer's certificate, for keyless signatures. */
  readonly certificate?: string;
  /** Rekor's promise, as JSON. */
  readonly rekor?: string;
}

export interface BundleMaterial {
  readonly kind: "bundle";
  readonly json: string;
}

export type SignatureMaterial = SimpleSigning | BundleMaterial;

export const SIGNATURE_LIMITS = {
  /** Of one image. */
  count: 64,
  payloadBytes: 128 * 1024,
  bundleBytes: 1024 * 1024,
} as const;

export const SIMPLE_SIGNING_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json";
export const BUNDLE_TYPE = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v0\.3\+json|\+json;version=0\.[1-3])$/;
const BUNDLE_LAYER = "application/vnd.dev.sigstore.bundle.v0.3+json";
const ANNOTATION = "dev.cosignproject.cosign/signature";
const CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate";
const REKOR_ANNOTATION = "dev.sigstore.cosign/bundle";
const COSIGN_TYPE = "cosign container image signature";
const SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1";

/** What a signature says that it signs. */
export interface SignedClaim {
  readonly digest: string;
  /** `docker-reference`; undefined where the form has none. */
  readonly reference: string | undefined;
  readonly annotations: Readonly<Record<string, unknown>>;
}

/** A layer of a signature manifest as material; undefined for one that is no signature. */
export function simpleSigning(
  annotations: Readonly<Record<string, string>>,
  payload: Uint8Array,
): SimpleSigning | undefined {
  const signature = annotations[ANNOTATION];
  if (signature === undefined || signature === "") return undefined;
  const certificate = annotations[CERTIFICATE_ANNOTATION];
  const rekor = annotations[REKOR_ANNOTATION];
  return {
    kind: "simple-signing",
    payload: Buffer.from(payload),
    signature: Buffer.from(signature, "base64"),
    ...(certificate === undefined ? {} : { certificate }),
    ...(rekor === undefined ? {} : { rekor }),
  };
}

/** The claim of a payload whose signature holds, or why it is none. */
export function readPayload(payload: Buffer): SignedClaim | string {
  const critical = objectOf(objectOf(parseJson(payload))?.["critical"]);
  if (critical === undefined) return "its payload is not cosign's";
  if (critical["type"] !== COSIGN_TYPE) return `its payload is of type ${show(critical["type"])}`;
  const digest = objectOf(critical["image"])?.["docker-manifest-digest"];
  if (typeof digest !== "string") return "its payload names no digest";
  const reference = objectOf(critical["identity"])?.["docker-reference"];
  return {
    digest,
    reference: typeof reference === "string" ? reference : undefined,
    annotations: objectOf(objectOf(parseJson(payload))?.["optional"]) ?? {},
  };
}

/** The claim of a signed in-toto statement; only those that cosign makes to sign an image, no other attestations. */
export function readStatement(payload: Buffer): readonly SignedClaim[] | string {
  const statement = objectOf(parseJson(payload));
  const type = statement?.["predicateType"];
  if (type !== SIGN_PREDICATE) return `it is an attestation of type ${show(type)}, no signature of an image`;
  const subjects = statement?.["subject"];
  if (!Array.isArray(subjects)) return "its statement has no subject";
  const annotations = objectOf(statement?.["predicate"]) ?? {};
  return subjects.slice(0, SIGNATURE_LIMITS.count).flatMap((subject: unknown) => {
    const hex = objectOf(objectOf(subject)?.["digest"])?.["sha256"];
    return typeof hex === "string" ? [{ digest: `sha256:${hex}`, reference: undefined, annotations }] : [];
  });
}

/** Where cosign puts signatures of a digest, in the same repository. */
export function signatureTag(digest: Digest): string {
  return `${digestAlgorithm(digest)}-${digestHex(digest)}.sig`;
}

export function materialToJson(material: SignatureMaterial): string {
  if (material.kind === "bundle") return JSON.stringify(material);
  const { payload, signature } = material;
  return JSON.stringify({
    ...material,
    payload: payload.toString("base64"),
    signature: signature.toString("base64"),
  });
}

/** Of what {@link materialToJson} wrote. */
export function materialFromJson(text: string): SignatureMaterial {
  const value = JSON.parse(text) as BundleMaterial | (Omit<SimpleSigning, "payload" | "signature"> & Encoded);
  if (value.kind === "bundle") return value;
  return {
    ...value,
    payload: Buffer.from(value.payload, "base64"),
    signature: Buffer.from(value.signature, "base64"),
  };
}

interface Encoded {
  readonly payload: string;
  readonly signature: string;
}

export function parseJson(bytes: Uint8Array | string): unknown {
  try {
    return JSON.parse(typeof bytes === "string" ? bytes : new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

export function objectOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}

function show(value: unknown): string {
  return JSON.stringify(typeof value === "string" ? value.slice(0, 100) : typeof value);
}

/** The other way of {@link simpleSigning}: a layer of a signature manifest. */
export function layerOf(material: SignatureMaterial): {
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly annotations: Readonly<Record<string, string>>;
} {
  if (material.kind === "bundle")
    return { mediaType: BUNDLE_LAYER, bytes: Buffer.from(material.json), annotations: {} };
  const { payload, signature, certificate, rekor } = material;
  return {
    mediaType: SIMPLE_SIGNING_TYPE,
    bytes: payload,
    annotations: {
      [ANNOTATION]: signature.toString("base64"),
      ...(certificate === undefined ? {} : { [CERTIFICATE_ANNOTATION]: certificate }),
      ...(rekor === undefined ? {} : { [REKOR_ANNOTATION]: rekor }),
    },
  };
}
