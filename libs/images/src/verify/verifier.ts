/**
 * The answer to the pull path's question whether a namespace may use an image (`pull/verification.ts`), by its policy.
 *
 * Invariants:
 *  1. Everything that the policy requires of this reference holds, for the digest that the name points to or for the
 *     manifest that was chosen from it: the first covers the second by its hash.
 *  2. Only allowing verdicts are kept, each for one version of one requirement: a changed policy asks anew, an unchanged one
 *     costs a look into a table, also without a network.
 *  3. What cannot be asked is not allowed: an unreachable registry or a missing program refuses, and says so.
 */
import { KeyedLock, StatusError, systemClock, throwIfAborted, type Clock, type Digest } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import type { ImageReference } from "@berth/model";
import type { VerifiedBy } from "../inspect/inspection.ts";
import type { ImageVerifier, VerificationCandidate } from "../pull/verification.ts";
import { findPrograms, runPrograms } from "./bindir.ts";
import { findSignatures } from "./find-signatures.ts";
import { judgeKey, type Judgement } from "./judge-key.ts";
import type { SignatureMaterial } from "./material.ts";
import {
  asksForName,
  requirementsOf,
  requirementVersion,
  type BindirRequirement,
  type KeylessRequirement,
  type KeyRequirement,
  type PolicySource,
  type Requirement,
} from "./policy.ts";
import { VerificationRows, type VerdictKey } from "./rows.ts";

/** An image by what identifies it. */
export interface VerificationSubject {
  readonly namespace: string;
  readonly image: string;
  readonly ref: ImageReference;
  readonly target: Digest;
  readonly manifest: Digest;
}

export interface PolicyVerifier {
  readonly check: ImageVerifier;
  /** May it be used by what is known already? False: {@link check} has to say. Asks nobody. */
  allows(subject: VerificationSubject): Promise<boolean>;
  /** Who allowed it, and whether that is what the policy asks now. */
  verifiedBy(subject: VerificationSubject): readonly VerifiedBy[];
  /** Forgets verdicts of images that are gone. */
  sweep(): Promise<void>;
}

export interface VerifierDeps {
  /** Opened with `imageMigrations` among its migrations. */
  readonly metadata: Metadata;
  readonly policies: PolicySource;
  readonly clock?: Clock;
}

/** Younger verdicts may be of a pull that is under way. */
const SWEEP_AGE_MS = 3_600_000;

export function createVerifier(deps: VerifierDeps): PolicyVerifier {
  const verifier = new Verifier(deps);
  return {
    check: (candidate, signal) => verifier.check(candidate, signal),
    allows: (subject) => verifier.allows(subject),
    verifiedBy: (subject) => verifier.verifiedBy(subject),
    sweep: () => verifier.sweep(),
  };
}

type Signed = KeyRequirement | KeylessRequirement;

class Verifier {
  readonly #policies: PolicySource;
  readonly #rows: VerificationRows;
  readonly #clock: Clock;
  readonly #locks = new KeyedLock();

  constructor({ metadata, policies, clock }: VerifierDeps) {
    this.#policies = policies;
    this.#rows = new VerificationRows(metadata);
    this.#clock = clock ?? systemClock;
  }

  async check(candidate: VerificationCandidate, signal: AbortSignal): Promise<void> {
    const subject = subjectOf(candidate);
    for (const requirement of this.#requirements(subject)) {
      throwIfAborted(signal);
      if (await this.#holdsAlready(requirement, subject)) continue;
      await this.#ask(requirement, candidate, subject, signal);
    }
  }

  async allows(subject: VerificationSubject): Promise<boolean> {
    for (const requirement of this.#requirements(subject)) {
      if (!(await this.#holdsAlready(requirement, subject))) return false;
    }
    return true;
  }

  verifiedBy(subject: VerificationSubject): readonly VerifiedBy[] {
    const { namespace } = subject;
    const wanted = this.#requirements(subject).map(requirementVersion);
    return digestsOf(subject)
      .flatMap((digest) => this.#rows.verdicts(namespace, digest))
      .filter(({ name }) => name === "" || name === subject.image)
      .map(({ kind, by, atMs, requirement }) => {
        return { kind, by, atMs, current: wanted.some((version) => requirement.startsWith(version)) };
      });
  }

  async sweep(): Promise<void> {
    await this.#rows.forget(this.#clock.nowMs() - SWEEP_AGE_MS);
  }

  #requirements({ namespace, ref }: VerificationSubject): readonly Requirement[] {
    return requirementsOf(this.#policies(namespace), ref);
  }

  async #holdsAlready(requirement: Requirement, subject: VerificationSubject): Promise<boolean> {
    switch (requirement.kind) {
      case "none":
        return true;
      case "reject":
        return false;
      case "digest-only":
        return subject.ref.digest === subject.target;
      case "key":
      case "keyless":
        return digestsOf(subject).some(
          (digest) => this.#rows.verdict(verdictKey(requirement, subject, digest)) !== undefined,
        );
      case "bindir": {
        const version = await findPrograms(requirement).then(
          (found) => found.version,
          () => undefined,
        );
        if (version === undefined) return false;
        return this.#rows.verdict(verdictKey(requirement, subject, subject.target, version)) !== undefined;
      }
    }
  }

  async #ask(
    requirement: Requirement,
    candidate: VerificationCandidate,
    subject: VerificationSubject,
    signal: AbortSignal,
  ): Promise<void> {
    switch (requirement.kind) {
      case "none":
        return;
      case "reject":
        throw refused(subject, "PERMISSION_DENIED", "IMAGE_REFUSED", "no image of this name may be used");
      case "digest-only": {
        const how = `it must be named by digest: ${subject.ref.registry}/${subject.ref.repository}@${subject.target}`;
        throw refused(subject, "FAILED_PRECONDITION", "IMAGE_NOT_BY_DIGEST", how);
      }
      case "key":
      case "keyless":
        return await this.#once(requirement, subject, signal, () =>
          this.#askSignatures(requirement, candidate, signal),
        );
      case "bindir":
        return await this.#once(requirement, subject, signal, () => this.#askPrograms(requirement, candidate, signal));
    }
  }

  /** Many may start the same image at once; one of them asks. */
  async #once(
    requirement: Requirement,
    subject: VerificationSubject,
    signal: AbortSignal,
    ask: () => Promise<void>,
  ): Promise<void> {
    const key = [subject.namespace, subject.target, subject.image, requirementVersion(requirement)].join(" ");
    await this.#locks.run(
      key,
      async () => {
        if (!(await this.#holdsAlready(requirement, subject))) await ask();
      },
      signal,
    );
  }

  async #askSignatures(requirement: Signed, candidate: VerificationCandidate, signal: AbortSignal): Promise<void> {
    const subject = subjectOf(candidate);
    const problems: string[] = [];
    for (const digest of digestsOf(subject)) {
      for await (const material of this.#signatures(candidate, digest, signal)) {
        const judgement = await judge(requirement, { ref: candidate.ref, digest }, material);
        if (judgement.holds) {
          const key = verdictKey(requirement, subject, digest);
          const { kind } = requirement;
          await this.#rows.allow({ ...key, kind, by: judgement.by, atMs: this.#clock.nowMs() }, material);
          return;
        }
        problems.push(judgement.why);
      }
    }
    throw unsigned(requirement, subject, problems);
  }

  /** What is known here first, then what came with the image, then what the registry has. */
  async *#signatures(
    { namespace, ref, registry, signatures, sources = [ref] }: VerificationCandidate,
    digest: Digest,
    signal: AbortSignal,
  ): AsyncGenerator<SignatureMaterial> {
    yield* this.#rows.signatures(namespace, digest);
    if (signatures !== undefined) yield* await signatures(digest, signal);
    if (registry === undefined) return;
    let unreadable: StatusError | undefined;
    for (const source of sources) {
      try {
        yield* await findSignatures(registry, source, digest, signal);
      } catch (error) {
        throwIfAborted(signal);
        const cause = StatusError.from(error);
        const text = `image ${source.registry}/${source.repository}: its signatures cannot be read: ${cause.message}`;
        unreadable ??= new StatusError(cause.code, text, { reason: "IMAGE_SIGNATURES_UNREADABLE", cause });
      }
    }
    if (unreadable !== undefined) throw unreadable;
  }

  async #askPrograms(
    requirement: BindirRequirement,
    candidate: VerificationCandidate,
    signal: AbortSignal,
  ): Promise<void> {
    const subject = subjectOf(candidate);
    const descriptor = candidate.target.descriptor;
    let by: string;
    let version: string;
    try {
      const found = await findPrograms(requirement);
      version = found.version;
      by = await runPrograms(requirement, found.programs, { name: subject.image, descriptor }, signal);
    } catch (error) {
      throwIfAborted(signal);
      const { code, reason, message } = StatusError.from(error);
      throw refused(subject, code, reason, message);
    }
    const key = verdictKey(requirement, subject, subject.target, version);
    await this.#rows.allow({ ...key, kind: "bindir", by, atMs: this.#clock.nowMs() }, undefined);
  }
}

async function judge(
  requirement: Signed,
  image: { readonly ref: ImageReference; readonly digest: Digest },
  material: SignatureMaterial,
): Promise<Judgement> {
  if (requirement.kind === "key") return judgeKey(requirement, image, material);
  // Where no policy asks for certificates, sigstore's 11 MB are not loaded.
  const { judgeKeyless } = await import("./judge-keyless.ts");
  return judgeKeyless(requirement, image, material);
}

function verdictKey(
  requirement: Requirement,
  { namespace, image }: VerificationSubject,
  digest: Digest,
  programs = "",
): VerdictKey {
  const version = requirementVersion(requirement);
  return {
    namespace,
    digest,
    requirement: programs === "" ? version : `${version} ${programs}`,
    name: asksForName(requirement) ? image : "",
  };
}

function subjectOf({ namespace, image, ref, target, manifest }: VerificationCandidate): VerificationSubject {
  return { namespace, image, ref, target: target.descriptor.digest, manifest: manifest.descriptor.digest };
}

function digestsOf({ target, manifest }: VerificationSubject): Digest[] {
  return target === manifest ? [target] : [target, manifest];
}

function unsigned(requirement: Signed, subject: VerificationSubject, problems: readonly string[]): StatusError {
  const wanted = requirement.kind === "key" ? "a signature by one of its keys" : "a signature by one of its identities";
  if (problems.length === 0) {
    const why = `it wants ${wanted}, and there is no signature; sign the image or change the policy`;
    return refused(subject, "FAILED_PRECONDITION", "IMAGE_UNSIGNED", why);
  }
  const list = [...new Set(problems)].slice(0, 3).join("; ");
  const why = `it wants ${wanted}; of ${problems.length} found none holds: ${list}`;
  return refused(subject, "FAILED_PRECONDITION", "IMAGE_SIGNATURE_INVALID", why);
}

function refused(
  { namespace, image, target }: VerificationSubject,
  code: ConstructorParameters<typeof StatusError>[0],
  reason: string,
  why: string,
): StatusError {
  const text = `image ${image} (${target}) is refused by the image policy of namespace "${namespace}": ${why}`;
  return new StatusError(code, text, { reason, details: { namespace, image, digest: target } });
}
