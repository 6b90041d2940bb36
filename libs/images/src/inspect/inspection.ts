/**
 * The contract of looking at images that are here: what is in them, what they cost, and what may go.
 *
 * Everything is read from this namespace's own content and rows (D7); nothing asks a registry. What is bounded or absent
 * is said: platforms of an index whose manifests were never fetched are listed as not present.
 */
import type { Digest } from "@berth/base";
import type { Descriptor, OciImageConfig, Platform } from "@berth/model";
import type { ImageRecord } from "../images.ts";

export interface LayerDetails {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly chainId: Digest;
  /** Is the compressed blob here? */
  readonly present: boolean;
  /** Snapshotters that have it unpacked. */
  readonly unpacked: readonly string[];
  /** Unpacked; undefined where no snapshotter has it. */
  readonly unpackedBytes: number | undefined;
}

export interface PlatformDetails {
  readonly platform: Platform | undefined;
  readonly descriptor: Descriptor;
  /** Manifest, config and all layers are here. */
  readonly present: boolean;
}

export interface ImageDetails {
  readonly record: ImageRecord;
  /** All names in this namespace for the same target. */
  readonly names: readonly string[];
  readonly manifest: Descriptor;
  readonly platforms: readonly PlatformDetails[];
  /** Undefined for an artifact that is no container image. */
  readonly config: OciImageConfig | undefined;
  readonly configDigest: Digest;
  readonly layers: readonly LayerDetails[];
  /** Repositories that its bytes came from: `registry/repository`. */
  readonly sources: readonly string[];
  /** Manifest, config and layers as they are stored. */
  readonly compressedBytes: number;
  /** Undefined unless a snapshotter has all layers. */
  readonly unpackedBytes: number | undefined;
  /** Empty: no policy of this namespace has allowed it as it is now. */
  readonly verified: readonly VerifiedBy[];
  readonly pinned: boolean;
  /** When a container was last started from it or it was pulled; undefined if not known. */
  readonly lastUsedAtMs: number | undefined;
}

export interface VerifiedBy {
  /** `key`, `keyless`, `bindir`. */
  readonly kind: string;
  /** The key's fingerprint, the certificate's identity, the programs: for people. */
  readonly by: string;
  readonly atMs: number;
  /** Is it what the policy asks now? */
  readonly current: boolean;
}

/** One step of how an image was built, newest first, as `docker history` has it. */
export interface HistoryEntry {
  readonly createdAtMs: number | undefined;
  readonly createdBy: string;
  readonly comment: string;
  readonly author: string;
  /** Changed no files. */
  readonly empty: boolean;
  readonly layer: Descriptor | undefined;
  /** Unpacked where that is known, else 0. */
  readonly sizeBytes: number;
}

export interface ImageUsage {
  readonly name: string;
  readonly digest: Digest;
  /** Blobs and layers that only names of this target refer to: what removing them would free. */
  readonly uniqueBytes: number;
  readonly sharedBytes: number;
  readonly pinned: boolean;
  readonly lastUsedAtMs: number | undefined;
}

export interface NamespaceUsage {
  readonly images: readonly ImageUsage[];
  /** Each thing counted once. */
  readonly blobBytes: number;
  readonly snapshotBytes: number;
  readonly totalBytes: number;
  /** What no image refers to. */
  readonly reclaimableBytes: number;
}

export interface PruneRequest {
  readonly namespace: string;
  /** Only images without a tag. Default: all that nothing uses. */
  readonly dangling?: boolean;
  /** containerd's filters, as of `list`; an image must match one. */
  readonly filters?: readonly string[];
  /** Not used and not pulled for so long. */
  readonly olderThanMs?: number;
  /** Names what would go, and removes nothing. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

export interface PruneResult {
  readonly removed: readonly { readonly name: string; readonly digest: Digest }[];
  /** Matching images that stay, and why: `used`, `pinned`. */
  readonly kept: readonly { readonly name: string; readonly why: "used" | "pinned" }[];
  /** Estimated with `dryRun`. */
  readonly freedBytes: number;
}

export interface ImageInspection {
  /** @throws NOT_FOUND `IMAGE_MISSING` */
  inspect(namespace: string, image: string): Promise<ImageDetails>;
  /** @throws NOT_FOUND `IMAGE_MISSING`; FAILED_PRECONDITION `IMAGE_IS_ARTIFACT` */
  history(namespace: string, image: string): Promise<readonly HistoryEntry[]>;
  usage(namespace: string): Promise<NamespaceUsage>;
  /** Names go first, then what they alone referred to; see {@link PruneRequest}. */
  prune(request: PruneRequest): Promise<PruneResult>;
}
