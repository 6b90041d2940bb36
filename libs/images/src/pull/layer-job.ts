/** What the main thread asks of a layer worker, and what it hears back. Everything here is structured-cloneable. */
import { StatusError, type Digest, type StatusCode } from "@berth/base";
import type { ImageReference } from "@berth/model";
import type { RegistrySession } from "@berth/registry";
import type { Mount } from "@berth/snapshots";
import type { OverlayXattrPrefix } from "@berth/linux";
import type { ApplyMode, DevicePolicy } from "../archive/apply.ts";
import type { DetachedNotes } from "../archive/detached-notes.ts";
import type { ArchiveLimits } from "../archive/entry.ts";
import type { DecompressConfig } from "./decompress.ts";
import type { LayerUsage } from "./layer-snapshots.ts";
import type { RangeConfig } from "./ranges.ts";
import type { RingMemory } from "./ring.ts";

/** Where the compressed bytes come from. */
export type LayerSource =
  | {
      readonly kind: "registry";
      readonly session: RegistrySession;
      readonly ref: ImageReference;
      /** Default: {@link defaultRanges}. */
      readonly ranges?: RangeConfig;
      /** The ingest's file; what is in it already is hashed again and continued by range. */
      readonly path: string;
    }
  /** A committed blob. */
  | { readonly kind: "file"; readonly path: string }
  /** What another job decompresses into memory of both. */
  | { readonly kind: "ring"; readonly memory: RingMemory };

/** Where a layer is extracted to. */
export interface UnpackTarget {
  readonly mounts: readonly Mount[];
  /** An empty directory for the mounts; unused for a single bind mount, which is written to directly. */
  readonly mountPoint: string;
  readonly mode: ApplyMode;
  readonly overlayXattrs: OverlayXattrPrefix;
  readonly limits: ArchiveLimits;
  /** Default: allow. */
  readonly devices?: DevicePolicy;
}

export interface LayerJob {
  /** Names image, layer and registry in errors. */
  readonly subject: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly source: LayerSource;
  /** What decompresses, and processors that the layer's media type asks for. */
  readonly decompress?: DecompressConfig;
  /** Decompress into this memory, for a job in another thread to extract. */
  readonly output?: RingMemory;
  /** Decompress, and compare the digest of the result. */
  readonly diffId?: Digest;
  /** Extract; only together with `diffId`. */
  readonly unpack?: UnpackTarget;
}

export interface JobResult {
  /** Of the compressed bytes; only where they came from a registry. */
  readonly computed?: { readonly digest: Digest; readonly sizeBytes: number };
  readonly entries: number;
  /** Of what was extracted; zeros without extraction. */
  readonly usage: LayerUsage;
  readonly warnings: readonly string[];
  /**
   * Of a layer that was extracted apart from those below: what is to be put right before it is committed. With
   * `needsMerged`, nothing is known of its diff id either.
   */
  readonly notes?: DetachedNotes | undefined;
}

/** A layer that was extracted apart, and what is below it by now. See mend.ts. */
export interface MendJob {
  readonly subject: string;
  /** The mounts it was extracted through. */
  readonly upper: readonly Mount[];
  /** A view of what is below. */
  readonly below: readonly Mount[];
  /** An empty directory. */
  readonly mountPoint: string;
  readonly notes: DetachedNotes;
}

export type MendResult =
  /** @param usage what it takes in addition */
  | { readonly kind: "mended"; readonly usage: LayerUsage }
  /** It cannot be: the layer must be extracted over the mounted chain. */
  | { readonly kind: "merge"; readonly why: string };

export type Task = { readonly kind: "run"; readonly job: LayerJob } | { readonly kind: "mend"; readonly job: MendJob };

/** Jobs run side by side: what is said of one carries its number. */
export type Numbered<T> = T & { readonly id: number };

export type ToWorker = Numbered<
  | Task
  /** Ends the job. */
  | { readonly kind: "cancel" }
>;

export type FromWorker = Numbered<
  /** Compressed bytes handled so far. */
  | { readonly kind: "progress"; readonly offsetBytes: number }
  | { readonly kind: "done"; readonly result: JobResult | MendResult }
  | { readonly kind: "failed"; readonly error: PlainError }
>;

/** A StatusError on its way between threads. */
export interface PlainError {
  readonly code: StatusCode;
  readonly reason: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string | number | boolean>>;
  readonly retryAfterMs: number | undefined;
}

export function toPlainError(error: unknown): PlainError {
  const { code, reason, message, details, retryAfterMs } = StatusError.from(error);
  return { code, reason, message, details, retryAfterMs };
}

export function fromPlainError(plain: PlainError): StatusError {
  const { code, reason, message, details, retryAfterMs } = plain;
  return new StatusError(code, message, { reason, details, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
}
