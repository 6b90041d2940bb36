/**
 * Which images a namespace may use: the policy's shape, and which part of it speaks of a reference.
 *
 * A policy is a list of rules and a default; the first rule whose pattern fits the image's `registry/repository` decides.
 * What a rule requires must hold altogether. Everything here is resolved: keys are PEM, a trust root is JSON, nothing is
 * read from files any more. Where policies come from (this host's configuration, later the controller's Namespace) is the
 * caller's: see {@link PolicySource}.
 */
import { createHash } from "node:crypto";
import type { ImageReference } from "@berth/model";
import { globMatches } from "./glob.ts";

/** May be used as it is. */
export interface NoRequirement {
  readonly kind: "none";
}

/** May not be used at all. */
export interface RejectRequirement {
  readonly kind: "reject";
}

/** Must be named by digest. */
export interface DigestRequirement {
  readonly kind: "digest-only";
}

/** Must be signed, as cosign does it, by one of the keys. */
export interface KeyRequirement {
  readonly kind: "key";
  /** PEM of ECDSA P-256, Ed25519 or RSA public keys. */
  readonly keys: readonly string[];
  /**
   * The repository that the signature must speak of (its `docker-reference`): `same` as the image's, or the one given here,
   * for mirrors. Not looked at when left out, as cosign does.
   */
  readonly repository?: string;
  /** What the signature's annotations must have. */
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface SignerIdentity {
  /** The certificate's subject: an e-mail address or a URI. `*` stands for what is between slashes, `**` for anything. */
  readonly subject: string;
  /** Who vouched for the subject, in full. */
  readonly issuer: string;
}

/** Must be signed with a short-lived certificate of one of these identities. */
export interface KeylessRequirement {
  readonly kind: "keyless";
  /** A sigstore trusted root (`trusted_root.json`), as text. */
  readonly trustRoot: string;
  readonly identities: readonly SignerIdentity[];
  /** Entries of transparency logs, and certificate logs' promises, that there must be. Default 1 each. */
  readonly tlogThreshold?: number;
  readonly ctlogThreshold?: number;
}

/** All programs of a folder must allow it, by containerd's `bindir` protocol. */
export interface BindirRequirement {
  readonly kind: "bindir";
  readonly directory: string;
  /** Default 10. */
  readonly maxPrograms?: number;
  /** For each program. Default 10 s. */
  readonly timeoutMs?: number;
}

export type Requirement =
  | NoRequirement
  | RejectRequirement
  | DigestRequirement
  | KeyRequirement
  | KeylessRequirement
  | BindirRequirement;

export interface PolicyRule {
  /** Of `registry/repository`; `*` stands for what is between slashes, `**` for anything. */
  readonly pattern: string;
  readonly require: readonly Requirement[];
}

export interface NamespacePolicy {
  readonly rules: readonly PolicyRule[];
  /** For images that no rule fits. */
  readonly default: readonly Requirement[];
}

/** The policy of a namespace as it is now; undefined: every image may be used. */
export type PolicySource = (namespace: string) => NamespacePolicy | undefined;

/** What the policy asks of this image; empty: nothing. */
export function requirementsOf(policy: NamespacePolicy | undefined, ref: ImageReference): readonly Requirement[] {
  if (policy === undefined) return [];
  const name = `${ref.registry}/${ref.repository}`;
  return policy.rules.find(({ pattern }) => globMatches(pattern, name))?.require ?? policy.default;
}

const versions = new WeakMap<Requirement, string>();

/** Changes with anything that the requirement says. */
export function requirementVersion(requirement: Requirement): string {
  const known = versions.get(requirement);
  if (known !== undefined) return known;
  const version = createHash("sha256").update(canonical(requirement)).digest("hex");
  versions.set(requirement, version);
  return version;
}

/** Does the answer depend on the image's name, beside its digest? */
export function asksForName(requirement: Requirement): boolean {
  return requirement.kind === "bindir" || (requirement.kind === "key" && requirement.repository === "same");
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  fields.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${canonical(field)}`).join(",")}}`;
}
