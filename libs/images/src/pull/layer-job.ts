/** What the main thread asks of a layer worker, and what it hears back. Everything here is structured-cloneable. */
import { StatusError, type Digest, type StatusCode } from "@berth/base";
import type { ImageReference } from "@berth/model";
import type { RegistrySession } from "@berth/registry";
import type { Mount } from "@berth/snapshots";
import type { LayerUsage } from "./layer-snapshots.ts";
import type { ApplyMode } from "../archive/apply.ts";
import type { ArchiveLimits } from "../archive/entry.ts";

/** Where the compressed bytes come from. */
export type LayerSource =
  | {
      readonly kind: "registry";
      readonly session: RegistrySession;
      readonly ref: ImageReference;
      /** The ingest's file; what is in it already is hashed again and continued by range. */
      readonly path: string;
    }
  /** A committed blob. */
  | { readonly kind: "file"; readonly path: string };

/** Where a layer is extracted to. */
export interface UnpackTarget {
  readonly mounts: readonly Mount[];
  /** An empty directory for the mounts; unused for a single bind mount, which is written to directly. */
  readonly mountPoint: string;
  readonly mode: ApplyMode;
  readonly limits: ArchiveLimits;
}

export interface LayerJob {
  /** Names image, layer and registry in errors. */
  readonly subject: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly source: LayerSource;
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
}

export type ToWorker =
  | { readonly kind: "run"; readonly job: LayerJob }
  /** Ends the running job. */
  | { readonly kind: "cancel" };

export type FromWorker =
  /** Compressed bytes handled so far. */
  | { readonly kind: "progress"; readonly offsetBytes: number }
  | { readonly kind: "done"; readonly result: JobResult }
  | { readonly kind: "failed"; readonly error: PlainError };

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
