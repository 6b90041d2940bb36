/**
 * The contract of the image service: names bound to digests, and the one pull path that every door uses.
 *
 * The story of a pull: resolve the reference → manifest (index: by platform) → config and layers at once, each layer by one
 * worker thread that streams HTTP → file and sha256 → decompress → sha256 of the diff → extraction → commit in chain order
 * → one syncfs → the image's row. Bulk bytes stay in workers (A4); blobs and layers are committed only by digest and diff id
 * (A3); every archive path is resolved beneath its root (A5).
 */
import type { Digest } from "@berth/base";
import type { GarbageCollection, ImagePins } from "./gc/gc.ts";
import type { Leases } from "./leases/leases.ts";
import type { Descriptor, OciImageConfig, Platform } from "@berth/model";
import type { ImageInspection } from "./inspect/inspection.ts";
import type { ImageTransfer } from "./transfer/transfer.ts";

export interface ImageRecord {
  readonly namespace: string;
  /** Normalised reference: `docker.io/library/busybox:latest`. */
  readonly name: string;
  readonly target: Descriptor;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/**
 * What a container needs to know of an image that is unpacked here. A pull gives the same of what it stored only: an
 * artifact ({@link UnpackedImage.artifactType}), or an image pulled with `unpack: false`.
 */
export interface UnpackedImage {
  readonly image: ImageRecord;
  readonly manifest: Digest;
  readonly configDigest: Digest;
  readonly config: OciImageConfig;
  readonly snapshotter: string;
  /** Chain id of the top layer: the parent of a container's snapshot. Empty for an image without layers. */
  readonly chainId: string;
  readonly sizeBytes: number;
  /** Set for what is no container image (a chart, a signature): it has no layers to unpack, and its config says nothing. */
  readonly artifactType?: string;
}

export type PullPhase = "resolving" | "downloading" | "unpacking" | "done" | "failed";

export interface LayerProgress {
  readonly digest: Digest;
  readonly state: "waiting" | "downloading" | "unpacking" | "done" | "exists";
  readonly offsetBytes: number;
  readonly totalBytes: number;
}

/** Monotonic: nothing goes back within one pull; what an earlier one left of a layer counts from the start. */
export interface PullProgress {
  readonly namespace: string;
  readonly image: string;
  readonly phase: PullPhase;
  readonly offsetBytes: number;
  readonly totalBytes: number;
  /** Of what comes over the network, in the last seconds. */
  readonly rateBytesPerSecond: number;
  /** Until all bytes are here, at this rate; absent while nothing comes. */
  readonly etaMs?: number;
  readonly layers: readonly LayerProgress[];
}

export interface PullRequest {
  readonly namespace: string;
  /** As the user wrote it; normalised by the service. */
  readonly image: string;
  readonly snapshotter: string;
  /** Defaults to this host's. */
  readonly platform?: Platform;
  /** `false` fetches bytes only; the image can be unpacked by another pull. Default true. */
  readonly unpack?: boolean;
  /** What the pull makes or finds is added to this lease of the namespace. */
  readonly lease?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PullProgress) => void;
}

export interface TagRequest {
  readonly namespace: string;
  /** A name that is here. */
  readonly image: string;
  /** The new name; an existing one is moved. */
  readonly tag: string;
  readonly signal?: AbortSignal;
}

export interface Images extends AsyncDisposable {
  /** Concurrent pulls of the same thing share the work. Idempotent. Errors name the image and say what to do. */
  pull(request: PullRequest): Promise<UnpackedImage>;
  /** The image as it lies here, unpacked. @throws NOT_FOUND `IMAGE_MISSING`; FAILED_PRECONDITION `IMAGE_IS_ARTIFACT`. */
  unpacked(namespace: string, image: string, snapshotter: string): Promise<UnpackedImage>;
  get(namespace: string, image: string): Promise<ImageRecord>;
  /**
   * By name; those that any of containerd's filters selects, all without one. Fields: `name`, `target.digest`,
   * `target.mediatype`, `labels."key"`.
   * @throws INVALID_ARGUMENT `FILTER_INVALID`
   */
  list(namespace: string, filters?: readonly string[]): Promise<readonly ImageRecord[]>;
  /** Another name for the same target, with its labels, if the namespace's policy allows it under that name. */
  tag(request: TagRequest): Promise<ImageRecord>;
  /**
   * May the namespace use the image as it is here, by its policy as it is now? Asked before each start; costs next to nothing
   * while the policy stays, and then needs no network.
   * @throws as the policy says: FAILED_PRECONDITION or PERMISSION_DENIED; NOT_FOUND `IMAGE_MISSING`
   */
  authorise(namespace: string, image: string, signal?: AbortSignal): Promise<void>;
  /** Drops the name; bytes and layers that nothing else refers to go with {@link Images.collect}. */
  remove(namespace: string, image: string): Promise<void>;
  /** One collection, on request; {@link Images.gc} has the rest. Asked again meanwhile, the one that runs is shared. */
  collect(): Promise<Collected>;
  /** Details, history, usage, prune. */
  readonly inspection: ImageInspection;
  /** Archives and pushes. */
  readonly transfer: ImageTransfer;
  readonly gc: GarbageCollection;
  readonly leases: Leases;
  readonly pins: ImagePins;
}

export interface Collected {
  readonly blobs: number;
  readonly snapshots: number;
  readonly freedBytes: number;
}
