/**
 * The contract of the registry client: what the pull pipeline asks of an OCI distribution server.
 *
 * The client owns authentication (anonymous, basic, bearer token with scope caching), retries with `Retry-After`, redirects
 * without leaking credentials, ranges and stalled-transfer detection. It never writes to disk and never trusts what a server
 * claims: callers hash what they get.
 */
import type { Digest } from "@berth/base";
import type { Descriptor, ImageReference } from "@berth/model";
import type { RegistrySession } from "./session.ts";

export interface RegistryCredentials {
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
  /** PEM of a private CA. */
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
  readonly signal?: AbortSignal;
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
  manifest(ref: ImageReference, options?: { readonly signal?: AbortSignal }): Promise<FetchedManifest>;
  /**
   * What the reference points to, by a HEAD request: proof that these credentials may read it there, and the server's word
   * for the digest, good only for looking up bytes that were hashed here. Undefined when the server does not say.
   * @throws as {@link manifest}
   */
  resolve(ref: ImageReference, options?: { readonly signal?: AbortSignal }): Promise<Digest | undefined>;
  /**
   * Opens a blob. The body ends at the range's end or the blob's; one that ends before it fails with UNAVAILABLE
   * `TRANSFER_BROKEN`, one that trickles with DEADLINE_EXCEEDED `TRANSFER_STALLED`, one that is longer than announced with
   * INVALID_ARGUMENT `REGISTRY_ANSWER_INVALID`. Its bytes are not hashed here.
   * @throws as {@link manifest}, with `BLOB_MISSING`; INVALID_ARGUMENT `REGISTRY_ANSWER_INVALID` for another range than asked
   */
  blob(ref: ImageReference, digest: Digest, options?: BlobOptions): Promise<BlobStream>;
  /** Does this repository hold the blob, for these credentials? Proof of access under D7. */
  hasBlob(ref: ImageReference, digest: Digest, options?: { readonly signal?: AbortSignal }): Promise<boolean>;
  /** What a worker thread needs to open this repository's blobs itself; structured-cloneable, secret. See session.ts. */
  session(ref: ImageReference): RegistrySession;
}
