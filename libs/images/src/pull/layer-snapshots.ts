/** What the pull asks of a snapshotter: layers by chain id, each seen by the namespaces that were given it (D7). */
import type { Mount } from "@berth/snapshots";

/** What a layer takes, as counted while it was written. */
export interface LayerUsage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

export interface LayerCommit {
  readonly usage: LayerUsage;
  /** Empty for a base layer. */
  readonly parent: string;
}

export interface LayerSnapshots {
  readonly name: string;
  /** May layers be extracted apart and be given their parents at commit? */
  readonly rebases: boolean;
  /** Has this namespace this committed layer? */
  has(namespace: string, chainId: string): Promise<boolean>;
  /** Is it there at all, whoever made it? Only for a caller that goes on to prove access. */
  physical(chainId: string): Promise<boolean>;
  /** Gives the namespace a layer that is there, with all below; false if it is not. The caller has proven access. */
  share(namespace: string, chainId: string): Promise<boolean>;
  prepare(namespace: string, key: string, parent: string): Promise<readonly Mount[]>;
  /** Read-only; ended by {@link remove}. */
  view(namespace: string, key: string, parent: string): Promise<readonly Mount[]>;
  /**
   * Makes what was extracted a layer on `parent`; digest and diff id have been checked. Given up if the layer is there
   * already.
   */
  commit(namespace: string, chainId: string, key: string, options: LayerCommit): Promise<void>;
  /**
   * Drops the namespace's reference, and the layer with the last one; gives the bytes that this freed.
   * @throws FAILED_PRECONDITION while something is built on it
   */
  remove(namespace: string, key: string): Promise<number>;
  /** Removes what a crash left half-extracted. */
  sweepExtractions(): Promise<void>;
  /** Puts everything committed on disk (A2). */
  sync(): Promise<void>;
}
