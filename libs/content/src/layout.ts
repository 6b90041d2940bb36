/**
 * Where things lie beneath the store's root, as containerd lays them out: `blobs/<algorithm>/<hex>` and
 * `ingest/<sha256 of namespace/ref>/data`. Everything is the owner's alone; a committed blob is read-only.
 */
import { createHash } from "node:crypto";
import { mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { digestAlgorithm, digestHex, StatusError, type Digest } from "@berth/base";

export const ALGORITHMS = ["sha256", "sha512"] as const;
export const INGEST_MODE = 0o600;
export const BLOB_MODE = 0o444;
const FOLDER_MODE = 0o700;

/** Whether bytes and names are forced to disk before a row speaks of them. `none` is for stores that may be lost. */
export type SyncPolicy = "full" | "none";

export class Layout {
  readonly root: string;
  readonly #sync: SyncPolicy;

  constructor(root: string, sync: SyncPolicy) {
    this.root = root;
    this.#sync = sync;
  }

  get ingestRoot(): string {
    return join(this.root, "ingest");
  }

  blobFolder(algorithm: string): string {
    return join(this.root, "blobs", algorithm);
  }

  blobPath(digest: Digest): string {
    return join(this.blobFolder(digestAlgorithm(digest)), digestHex(digest));
  }

  ingestName(namespace: string, ref: string): string {
    return createHash("sha256").update(`${namespace}/${ref}`).digest("hex");
  }

  ingestFolder(namespace: string, ref: string): string {
    return join(this.ingestRoot, this.ingestName(namespace, ref));
  }

  ingestData(namespace: string, ref: string): string {
    return join(this.ingestFolder(namespace, ref), "data");
  }

  /** Makes the folders, and their names durable, so that a rename into them is all that a commit has to sync. */
  async create(): Promise<void> {
    const folders = [this.ingestRoot, ...ALGORITHMS.map((algorithm) => this.blobFolder(algorithm))];
    for (const folder of folders) await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
    await this.syncFolder(join(this.root, "blobs"));
    await this.syncFolder(this.root);
  }

  async createIngest(namespace: string, ref: string): Promise<void> {
    await mkdir(this.ingestFolder(namespace, ref), { recursive: true, mode: FOLDER_MODE });
  }

  async removeIngest(namespace: string, ref: string): Promise<void> {
    await rm(this.ingestFolder(namespace, ref), { recursive: true, force: true });
  }

  async syncFolder(path: string): Promise<void> {
    if (this.#sync === "none") return;
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async syncFile(file: { sync(): Promise<void> }): Promise<void> {
    if (this.#sync === "full") await file.sync();
  }
}

/** A file system's error as ours; a full disk gets the reason callers look for. */
export function fileError(error: unknown, subject: string): StatusError {
  const status = StatusError.from(error, subject);
  if (status.reason !== "ENOSPC" && status.reason !== "EDQUOT") return status;
  return new StatusError("RESOURCE_EXHAUSTED", `${status.message}; free some space on its file system`, {
    reason: "CONTENT_DISK_FULL",
    cause: error,
  });
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === "ENOENT";
}

/** Undefined when there is no such file. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
