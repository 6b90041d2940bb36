/**
 * Is there a signature with a certificate of one of a policy's identities over this digest? @sigstore/verify checks chain,
 * logs and signature; which identity is meant, and what is signed, is compared here: that library takes a wanted subject
 * for a pattern that may match anywhere in the signer's.
 */
import { createHash } from "node:crypto";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, Verifier } from "@sigstore/verify";
import { globMatches } from "./glob.ts";
import { claimProblem, type Judged, type Judgement } from "./judge-key.ts";
import {
  objectOf,
  parseJson,
  readPayload,
  readStatement,
  type SignatureMaterial,
  type SignedClaim,
  type SimpleSigning,
} from "./material.ts";
import type { KeylessRequirement } from "./policy.ts";
import { parseTrustRoot } from "./trust-root.ts";

const BUNDLE_V01 = "application/vnd.dev.sigstore.bundle+json;version=0.1";
const MAX_SUBJECT = 2048;

const verifiers = new WeakMap<KeylessRequirement, Verifier>();

export function judgeKeyless(requirement: KeylessRequirement, image: Judged, material: SignatureMaterial): Judgement {
  const verifier = verifierOf(requirement);
  const opened = open(material);
  if (typeof opened === "string") return { holds: false, why: opened };
  let identity: { readonly subject: string; readonly issuer: string };
  try {
    const signer = verifier.verify(toSignedEntity(bundleFromJSON(opened.bundle), opened.artifact)).identity;
    identity = { subject: signer?.subjectAlternativeName ?? "", issuer: signer?.extensions?.issuer ?? "" };
  } catch (error) {
    return { holds: false, why: `it does not hold: ${reasonOf(error)}` };
  }
  if (!requirement.identities.some((wanted) => isSigner(wanted, identity))) {
    return { holds: false, why: `it is by ${show(identity.subject)} of ${show(identity.issuer)}, who may not sign` };
  }
  const problem = claimProblem({}, image, opened.claims());
  if (problem !== undefined) return { holds: false, why: problem };
  return { holds: true, by: `${identity.subject} of ${identity.issuer}` };
}

function isSigner(
  wanted: KeylessRequirement["identities"][number],
  { subject, issuer }: { readonly subject: string; readonly issuer: string },
): boolean {
  if (subject === "" || subject.length > MAX_SUBJECT || issuer !== wanted.issuer) return false;
  return globMatches(wanted.subject, subject);
}

function verifierOf(requirement: KeylessRequirement): Verifier {
  const known = verifiers.get(requirement);
  if (known !== undefined) return known;
  const { trustRoot, tlogThreshold = 1, ctlogThreshold = 1 } = requirement;
  const verifier = new Verifier(parseTrustRoot(trustRoot), { tlogThreshold, ctlogThreshold, timestampThreshold: 1 });
  verifiers.set(requirement, verifier);
  return verifier;
}

interface Opened {
  readonly bundle: unknown;
  /** What is signed, where the bundle itself has only its digest. */
  readonly artifact: Buffer | undefined;
  readonly claims: () => readonly SignedClaim[] | string;
}

function open(material: SignatureMaterial): Opened | string {
  if (material.kind === "simple-signing") return openSimple(material);
  const bundle = objectOf(parseJson(material.json));
  const payload = objectOf(bundle?.["dsseEnvelope"])?.["payload"];
  if (bundle === undefined || typeof payload !== "string") return "its bundle has no signed statement";
  if (objectOf(bundle["verificationMaterial"])?.["publicKey"] !== undefined)
    return "it is by a key, not by a certificate";
  return { bundle, artifact: undefined, claims: () => readStatement(Buffer.from(payload, "base64")) };
}

/** cosign's older form, which spreads what a bundle has over annotations. */
function openSimple({ payload, signature, certificate, rekor }: SimpleSigning): Opened | string {
  if (certificate === undefined) return "it has no certificate: it is by a key";
  const promise = objectOf(parseJson(rekor ?? ""));
  const entry = objectOf(promise?.["Payload"]);
  if (promise === undefined || entry === undefined) return "it has no entry of a transparency log";
  const body = String(entry["body"]);
  const kind = objectOf(parseJson(Buffer.from(body, "base64")));
  const der = certificate.replaceAll(/-----[^-]+-----|\s/g, "");
  const bundle = {
    mediaType: BUNDLE_V01,
    verificationMaterial: {
      x509CertificateChain: { certificates: [{ rawBytes: der }] },
      tlogEntries: [
        {
          logIndex: String(entry["logIndex"]),
          logId: { keyId: Buffer.from(String(entry["logID"]), "hex").toString("base64") },
          kindVersion: { kind: String(kind?.["kind"]), version: String(kind?.["apiVersion"]) },
          integratedTime: String(entry["integratedTime"]),
          inclusionPromise: { signedEntryTimestamp: String(promise["SignedEntryTimestamp"]) },
          canonicalizedBody: body,
        },
      ],
    },
    messageSignature: {
      messageDigest: { algorithm: "SHA2_256", digest: createHash("sha256").update(payload).digest("base64") },
      signature: signature.toString("base64"),
    },
  };
  const claims = (): readonly SignedClaim[] | string => {
    const claim = readPayload(payload);
    return typeof claim === "string" ? claim : [claim];
  };
  return { bundle, artifact: payload, claims };
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 300);
}

function show(text: string): string {
  return text === "" ? "nobody" : JSON.stringify(text.slice(0, 200));
}
