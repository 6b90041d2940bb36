/**
 * The question whether a namespace may use an image, asked by the pull path and answered by a policy behind it.
 *
 * The story: a pull resolves its reference, then asks. Layers may be fetched meanwhile, but nothing is unpacked and no image
 * is recorded before the answer; a refusal fails the pull and what it fetched goes with the next collection. A pull of
 * what is here already asks as well: the policy may be another by now. Imports and starts ask the same question.
 */
import type { Digest } from "@berth/base";
import type { Descriptor, ImageReference } from "@berth/model";
import type { RegistryClient } from "@berth/registry";
import type { SignatureMaterial } from "../verify/material.ts";

/** Bytes that were re-hashed here, and what names them. */
export interface VerifiedDocument {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}

export interface VerificationCandidate {
  readonly namespace: string;
  /** The normalised reference. */
  readonly image: string;
  readonly ref: ImageReference;
  /** What the reference points to: an index or a manifest. */
  readonly target: VerifiedDocument;
  /** What was chosen from it for the platform; the same as `target` where that is no index. */
  readonly manifest: VerifiedDocument;
  /** With the namespace's credentials, to look for signatures; undefined where an image comes from no registry. */
  readonly registry: RegistryClient | undefined;
  /** Where its bytes came from, to look for signatures there; in place of `ref`, which may be a name given on this host. */
  readonly sources?: readonly ImageReference[];
  /** Signatures that came along with the image, as in an archive. */
  readonly signatures?: ((digest: Digest, signal: AbortSignal) => Promise<readonly SignatureMaterial[]>) | undefined;
}

/** Resolves when the image may be used. @throws what the pull shall fail with: FAILED_PRECONDITION or PERMISSION_DENIED */
export type ImageVerifier = (candidate: VerificationCandidate, signal: AbortSignal) => Promise<void>;
