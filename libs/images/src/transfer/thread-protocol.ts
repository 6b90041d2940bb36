/** What the main thread asks of a transfer's thread, and what it hears back. Everything here is structured-cloneable. */
import type { Digest } from "@berth/base";
import type { ImageReference } from "@berth/model";
import type { PushOutcome, RegistrySession } from "@berth/registry";
import type { Compression } from "../pull/decompress.ts";
import type { PlainError } from "../pull/layer-job.ts";

/** Bytes on disk. */
export type FileRange =
  | { readonly kind: "file"; readonly path: string; readonly offset: number; readonly length: number }
  /** A whole file beneath a directory that a stranger filled: no link on the way is followed. */
  | { readonly kind: "beneath"; readonly root: string; readonly name: string; readonly length: number };

/** An entry of a tar file that can stand for a document or a blob. */
export interface ArchiveEntry {
  /** Normalised, a byte string. */
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
  /** The target of a link, in place of data. */
  readonly link?: string;
}

/** A part of a tar file to be written. */
export type ArchivePart =
  | { readonly kind: "directory"; readonly name: string }
  | { readonly kind: "bytes"; readonly name: string; readonly bytes: Uint8Array }
  /** A blob; it must hash to its digest. */
  | {
      readonly kind: "blob";
      readonly name: string;
      readonly path: string;
      readonly digest: Digest;
      readonly sizeBytes: number;
    }
  /** What a layer's blob decompresses to; it must hash to `diffId`. */
  | { readonly kind: "layer"; readonly name: string; readonly path: string; readonly diffId: Digest };

export interface PushBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly path: string;
  /** A repository of the same registry that it came from. */
  readonly mountFrom?: string;
}

export type TransferJob =
  /** Copies an archive to a file, decompressed if it is compressed. */
  | {
      readonly kind: "spool";
      readonly source: { readonly path: string } | { readonly fd: number };
      readonly target: string;
      readonly maxBytes: number;
    }
  | { readonly kind: "index"; readonly path: string; readonly maxEntries: number }
  /** Copies to an existing, empty file and hashes. */
  | {
      readonly kind: "copy";
      readonly source: FileRange;
      readonly target: string;
      readonly algorithm: "sha256" | "sha512";
    }
  /** Puts blobs into a repository, some at a time. */
  | {
      readonly kind: "push";
      readonly session: RegistrySession;
      readonly ref: ImageReference;
      readonly blobs: readonly PushBlob[];
    }
  /** Writes a whole tar file; closes `fd`. */
  | {
      readonly kind: "write";
      readonly target: { readonly path: string } | { readonly fd: number };
      readonly parts: readonly ArchivePart[];
    };

export interface JobResults {
  readonly push: { readonly outcomes: readonly PushOutcome[] };
  readonly spool: { readonly sizeBytes: number };
  readonly index: { readonly entries: readonly ArchiveEntry[] };
  readonly copy: { readonly digest: Digest; readonly sizeBytes: number; readonly compression: Compression };
  readonly write: { readonly sizeBytes: number };
}

export type ToThread = TransferJob | { readonly kind: "cancel" };

export type FromThread =
  /** Of one of several blobs; with an outcome when it is there. */
  | { readonly kind: "blob"; readonly digest: Digest; readonly bytes: number; readonly outcome?: PushOutcome }
  | { readonly kind: "progress"; readonly bytes: number }
  | { readonly kind: "done"; readonly result: JobResults[keyof JobResults] }
  | { readonly kind: "failed"; readonly error: PlainError };
