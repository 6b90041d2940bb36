/** Is there a signature by one of a policy's keys over this digest? Pure: no registry, no rows. */
import type { Digest } from "@berth/base";
import { formatImageReference, parseImageReference, type ImageReference } from "@berth/model";
import { parseSignerKey, signatureHolds, type SignerKey } from "./keys.ts";
import {
  objectOf,
  parseJson,
  readPayload,
  readStatement,
  type SignatureMaterial,
  type SignedClaim,
} from "./material.ts";
import type { KeyRequirement } from "./policy.ts";

/** `by`: who signed, for people. `why`: what is wrong with a signature. */
export type Judgement = { readonly holds: true; readonly by: string } | { readonly holds: false; readonly why: string };

export interface Judged {
  readonly ref: ImageReference;
  readonly digest: Digest;
}

const keysOf = new WeakMap<KeyRequirement, readonly SignerKey[]>();

export function judgeKey(requirement: KeyRequirement, image: Judged, material: SignatureMaterial): Judgement {
  const signed = signedBytes(material);
  if (typeof signed === "string") return { holds: false, why: signed };
  const keys = keysOf.get(requirement) ?? requirement.keys.map(parseSignerKey);
  keysOf.set(requirement, keys);
  const signer = keys.find((key) => signed.signatures.some((one) => signatureHolds(key, signed.bytes, one)));
  if (signer === undefined) return { holds: false, why: "it is by none of the policy's keys, or was changed" };
  const problem = claimProblem(requirement, image, signed.claims());
  return problem === undefined ? { holds: true, by: `key ${signer.fingerprint}` } : { holds: false, why: problem };
}

/** What is signed claims something about this image, or why it does not. */
export function claimProblem(
  requirement: Pick<KeyRequirement, "repository" | "annotations">,
  { ref, digest }: Judged,
  claims: readonly SignedClaim[] | string,
): string | undefined {
  if (typeof claims === "string") return claims;
  const claim = claims.find((one) => one.digest === digest);
  if (claim === undefined) return `it signs ${claims[0]?.digest.slice(0, 80) ?? "nothing"} and not this image`;
  const { repository, annotations = {} } = requirement;
  const wanted = repository === "same" ? `${ref.registry}/${ref.repository}` : repository;
  if (wanted !== undefined && repositoryOf(claim.reference) !== repositoryOf(wanted)) {
    return `it speaks of repository ${JSON.stringify((claim.reference ?? "").slice(0, 200))} and not of ${wanted}`;
  }
  const missing = Object.entries(annotations).find(([key, value]) => claim.annotations[key] !== value);
  return missing === undefined ? undefined : `it lacks the annotation ${missing[0]}=${missing[1]}`;
}

interface SignedBytes {
  readonly bytes: Uint8Array;
  readonly signatures: readonly Uint8Array[];
  readonly claims: () => readonly SignedClaim[] | string;
}

function signedBytes(material: SignatureMaterial): SignedBytes | string {
  if (material.kind === "simple-signing") {
    const { payload, signature } = material;
    const claims = (): readonly SignedClaim[] | string => {
      const claim = readPayload(payload);
      return typeof claim === "string" ? claim : [claim];
    };
    return { bytes: payload, signatures: [signature], claims };
  }
  const bundle = objectOf(parseJson(material.json));
  const envelope = objectOf(bundle?.["dsseEnvelope"]);
  if (envelope === undefined) return "its bundle has no signed statement";
  const [type, body] = [envelope["payloadType"], envelope["payload"]];
  const signatures = envelope["signatures"];
  if (typeof type !== "string" || typeof body !== "string" || !Array.isArray(signatures))
    return "its bundle is damaged";
  const payload = Buffer.from(body, "base64");
  return {
    bytes: preAuthenticated(type, payload),
    signatures: signatures.slice(0, 8).map((one: unknown) => {
      const text = objectOf(one)?.["sig"];
      return Buffer.from(typeof text === "string" ? text : "", "base64");
    }),
    claims: () => readStatement(payload),
  };
}

/** What a DSSE signature is over (secure-systems-lab/dsse, "PAE"). */
function preAuthenticated(type: string, payload: Buffer): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** Without tag and digest, normalised; cosign writes either form. */
function repositoryOf(reference: string | undefined): string | undefined {
  if (reference === undefined || reference === "") return undefined;
  try {
    const ref = parseImageReference(reference);
    return formatImageReference({ ...ref, tag: undefined, digest: undefined });
  } catch {
    return undefined;
  }
}
