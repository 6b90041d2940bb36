/**
 * The contract of moving images in and out of a node otherwise than by a pull: archives and pushes.
 *
 * The story of an import: the archive's index is read (names and sizes bounded; whatever stands in it is hostile, A5) → the
 * blobs it needs are copied into ingests by worker threads, hashed, and committed by digest (A3, A4) → each image goes through
 * the pull path's own verification and unpack, which find all bytes here → all names are recorded in one transaction. When
 * anything fails, no name is recorded and what was brought is collected.
 *
 * The story of an export or a push: the image's documents are read from this namespace's content and pinned, blobs are
 * hashed as they leave, and a blob that is not what its digest says ends it; a file appears under its name only when whole.
 */
import type { Readable, Writable } from "node:stream";
import type { Digest } from "@berth/base";
import type { Descriptor, Platform } from "@berth/model";
import type { ImageRecord } from "../images.ts";

/** `oci`: an OCI image layout. `docker`: what `docker save` writes. */
export type ArchiveFormat = "oci" | "docker";

export type ImportSource =
  /** A tar file, plain or compressed. */
  | { readonly kind: "file"; readonly path: string }
  /** An OCI layout as a directory. */
  | { readonly kind: "directory"; readonly path: string }
  /** The bytes of a tar file, as a client sends them; copied to disk first. */
  | { readonly kind: "stream"; readonly stream: Readable };

export interface ImportRequest {
  readonly namespace: string;
  readonly source: ImportSource;
  /** The name of the archive's only image, in place of the one in it. */
  readonly name?: string;
  /** Repository of images that the archive names by a bare tag, such as `docker.io/library/app`. */
  readonly baseName?: string;
  /** Only these of the archive's images, by their names; all when left out. */
  readonly only?: readonly string[];
  /** Unpacked for this host with this snapshotter; recorded and verified, but not unpacked, when left out. */
  readonly snapshotter?: string;
  /** The platform to unpack and run. Default: this host's. An archive without it is recorded but not unpacked. */
  readonly platform?: Platform;
  readonly labels?: Readonly<Record<string, string>>;
  /** What the import makes or finds is added to this lease of the namespace. */
  readonly lease?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

export interface ImportedImage {
  readonly record: ImageRecord;
  /** What was chosen for the platform. */
  readonly manifest: Digest;
  readonly unpacked: boolean;
}

export interface ImportResult {
  readonly format: ArchiveFormat;
  readonly images: readonly ImportedImage[];
}

export type ExportTarget =
  /** A tar file; replaced when the export is whole. */
  | { readonly kind: "file"; readonly path: string }
  /** An OCI layout as a directory, which must not exist or be empty. */
  | { readonly kind: "directory"; readonly path: string }
  /** A tar file's bytes. Ended on success, destroyed on failure. */
  | { readonly kind: "stream"; readonly stream: Writable };

export interface ExportRequest {
  readonly namespace: string;
  /** Names or references of images that are here. */
  readonly images: readonly string[];
  readonly target: ExportTarget;
  /** Default `oci`; such an archive can be read by `docker load`, too. `docker` has no indexes. */
  readonly format?: ArchiveFormat;
  /** Only this platform of each image. Default: of OCI all that are here, of Docker this host's. */
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

export interface ExportResult {
  readonly images: readonly string[];
  readonly blobs: number;
  /** Of the archive, or of the directory's files. */
  readonly sizeBytes: number;
}

export interface PushRequest {
  readonly namespace: string;
  /** The image that is here. */
  readonly image: string;
  /** Where it goes, with a tag or none; the image's own name when left out. */
  readonly target?: string;
  /** Only this platform's manifest. Default: all that the image has; an index goes only if all its manifests are here. */
  readonly platform?: Platform;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

export interface PushResult {
  readonly target: Descriptor;
  /** Blobs whose bytes were sent. */
  readonly uploaded: number;
  /** Blobs that the registry took from another repository of its own. */
  readonly mounted: number;
  /** Blobs that were there. */
  readonly existing: number;
}

export interface BlobProgress {
  readonly digest: Digest;
  readonly state: "waiting" | "copying" | "done" | "exists" | "mounted";
  readonly offsetBytes: number;
  readonly totalBytes: number;
}

/** Monotonic, as a pull's is. */
export interface TransferProgress {
  readonly phase: "reading" | "copying" | "unpacking" | "recording" | "done";
  readonly offsetBytes: number;
  readonly totalBytes: number;
  readonly blobs: readonly BlobProgress[];
}

export interface ImageTransfer {
  /** @throws INVALID_ARGUMENT `ARCHIVE_INVALID`, `ARCHIVE_UNNAMED`; DATA_LOSS `ARCHIVE_DIGEST_MISMATCH`; those of a pull. */
  import(request: ImportRequest): Promise<ImportResult>;
  /** @throws NOT_FOUND `IMAGE_MISSING`, `BLOB_MISSING`; DATA_LOSS `BLOB_DAMAGED`. */
  export(request: ExportRequest): Promise<ExportResult>;
  /** @throws as {@link export} and as `@berth/registry` does. */
  push(request: PushRequest): Promise<PushResult>;
}
