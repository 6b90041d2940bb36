/**
 * The contract of the registry client: what is asked of OCI distribution servers.
 *
 * The client owns routes (mirrors in order, with a memory of their health), authentication (anonymous, basic, bearer token
 * with scope caching), retries with `Retry-After`, redirects without leaking credentials, ranges, stalled-transfer detection
 * and bandwidth limits. It never writes to disk and never trusts what a server claims: callers hash what they get.
 *
 * A blob's transfer that breaks off is its reader's to resume: call `blob` again with the offset, and the next endpoint
 * answers, since the one that failed is remembered.
 */
import type { Digest } from "@berth/base";
import type { Descriptor, ImageReference } from "@berth/model";
import type { BlobSource, PushedManifest, PushOptions, PushOutcome } from "./push.ts";
import type { Referrer, ReferrersOptions } from "./referrers.ts";
import type { RegistrySession } from "./session.ts";

/** Docker's name of a user whose password is an identity token (an OAuth2 refresh token). */
export const IDENTITY_USER = "<token>";

export interface RegistryCredentials {
  /** {@link IDENTITY_USER} makes the password an identity token. */
  readonly username: string;
  readonly password: string;
}

/** How one registry host is reached. */
export interface RegistryHost {
  /** `host[:port]` as it stands in image references. */
  readonly host: string;
  /** HTTP instead of HTTPS. Only where an operator says so. */
  readonly plainHttp?: boolean;
  readonly credentials?: RegistryCredentials;
  /** PEM of a private CA; for the registry itself and for mirrors on this host that name no CA of their own. */
  readonly ca?: string;
}

export interface FetchedManifest {
  readonly descriptor: Descriptor;
  /** The exact bytes; the client has checked that they hash to the descriptor's digest. */
  readonly bytes: Uint8Array;
}

export interface BlobOptions {
  /** Default 0. */
  readonly offsetBytes?: number;
  /** At most so many bytes from there, at least 1; to the end when left out. */
  readonly lengthBytes?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface BlobStream extends AsyncDisposable {
  /** Where the first byte lies in the blob: what was asked for, or 0 where the server ignores ranges. */
  readonly offsetBytes: number;
  /** Of the whole blob, as the server says it; undefined when it does not. */
  readonly totalBytes: number | undefined;
  /** False when a range was asked for and the whole blob comes: dispose of the stream, or pass by what is not wanted. */
  readonly rangeHonoured: boolean;
  readonly body: AsyncIterable<Uint8Array>;
}

export interface RegistryClient extends AsyncDisposable {
  /**
   * The manifest or index a reference names, re-hashed.
   * @throws NOT_FOUND `IMAGE_MISSING`; UNAUTHENTICATED or PERMISSION_DENIED `REGISTRY_DENIED`; UNAVAILABLE
   * `REGISTRY_UNREACHABLE`; DATA_LOSS `MANIFEST_DIGEST_MISMATCH`; INVALID_ARGUMENT `MANIFEST_UNSUPPORTED` (schema 1, HTML…);
   * every message names the registry and the repository.
   */
  manifest(ref: ImageReference, options?: CallOptions): Promise<FetchedManifest>;
  /**
   * What the reference points to, by a HEAD request, or a GET where the server cannot do that: proof that these credentials
   * may read it there, and the server's word for the digest, good only for looking up bytes that were hashed here.
   * @throws as {@link manifest}
   */
  resolve(ref: ImageReference, options?: CallOptions): Promise<Digest | undefined>;
  /**
   * Opens a blob. The body ends at the range's end or the blob's; one that ends before it fails with UNAVAILABLE
   * `TRANSFER_BROKEN`, one that trickles with DEADLINE_EXCEEDED `TRANSFER_STALLED`, one that is longer than announced with
   * INVALID_ARGUMENT `REGISTRY_ANSWER_INVALID`. Its bytes are not hashed here.
   * @throws as {@link manifest}, with `BLOB_MISSING`; INVALID_ARGUMENT `REGISTRY_ANSWER_INVALID` for another range than asked
   */
  blob(ref: ImageReference, digest: Digest, options?: BlobOptions): Promise<BlobStream>;
  /** Does this repository hold the blob, for these credentials? Proof of access under D7. */
  hasBlob(ref: ImageReference, digest: Digest, options?: CallOptions): Promise<boolean>;
  /**
   * What refers to a manifest of the repository of `ref`; a server without the referrers API is asked for the tag that
   * stands in for it. Every page is read; filtered here, whether or not the server does.
   * @throws as {@link manifest}; INVALID_ARGUMENT `REFERRERS_INVALID`
   */
  referrers(ref: ImageReference, subject: Digest, options?: ReferrersOptions): Promise<readonly Referrer[]>;
  /**
   * Puts a blob into the repository of `ref`, unless it is there or can be mounted from `mountFrom`. The server hashes it.
   * @throws as {@link manifest}; FAILED_PRECONDITION `BLOB_SOURCE_CHANGED`; DATA_LOSS `PUSH_DIGEST_MISMATCH`
   */
  pushBlob(
    ref: ImageReference,
    blob: Pick<Descriptor, "digest" | "size">,
    source: BlobSource,
    options?: PushOptions,
  ): Promise<PushOutcome>;
  /** Puts a manifest or index under the tag of `ref`, or under its digest alone; gives the digest. @throws as {@link pushBlob} */
  pushManifest(ref: ImageReference, manifest: PushedManifest, options?: CallOptions): Promise<Digest>;
  /** What a worker thread needs to open this repository's blobs itself; structured-cloneable, secret. See session.ts. */
  session(ref: ImageReference): RegistrySession;
}
