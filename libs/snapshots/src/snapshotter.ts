/**
 * The contract of a snapshotter: containerd's, word for word where it can be (core/snapshots/snapshotter.go).
 *
 * The story of an image: for each layer, `prepare(key, parentChainId)` gives an active snapshot and the mounts to write it
 * through; the layer is extracted there; `commit(chainId, key)` turns it into an immutable parent. A container gets its
 * root file system by `prepare(containerId, topChainId)` (writable) or `view` (read-only), mounts what `mounts` returns,
 * and ends with `remove`.
 *
 *   prepare ─► active ─commit─► committed (parent of others)        view ─► view
 *                 └──── remove ─┴─ remove (only without children) ───────────┘
 *
 * Invariants, proven for every implementation by `testing/conformance.ts`:
 *  1. Names of committed snapshots and keys of active ones and views share one name space per snapshotter.
 *  2. Only a committed snapshot can be a parent; one with children cannot be removed (FAILED_PRECONDITION).
 *  3. What a record calls committed is whole on disk after a crash; what has no record is swept by `cleanup` (A2, A6).
 *  4. Mounts of an active snapshot are writable and see all parents; those of views and committed parents are read-only.
 */

export type SnapshotKind = "active" | "view" | "committed";

export interface SnapshotInfo {
  readonly key: string;
  readonly kind: SnapshotKind;
  /** Empty for a base layer. */
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export interface SnapshotUsage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

export interface ListedSnapshot extends SnapshotInfo {
  readonly usage: SnapshotUsage | undefined;
}

/** A mount as containerd describes it: `type` overlay, bind…; options as mount(8) takes them. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface SnapshotOptions {
  /** Kept with the record. Some ask for something: see {@link LABELS} in `options.ts`. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface PrepareOptions extends SnapshotOptions {
  /**
   * The most that may be written into it; writing more gives EDQUOT. @throws UNIMPLEMENTED `SNAPSHOT_QUOTA_UNSUPPORTED`
   * where `capabilities.quota` is false, unless the snapshotter was opened with `missingQuota: "warn"`.
   */
  readonly maxBytes?: number;
  /** Its files need not survive a crash of the host: the snapshot is then gone. Faster where the snapshotter can. */
  readonly volatile?: boolean;
}

export interface CommitOptions extends SnapshotOptions {
  /** Rebase: the parent that an active snapshot prepared without one shall get. Only where `capabilities.rebase`. */
  readonly parent?: string;
  /** What the snapshot takes, if the caller counted while writing it; otherwise it is counted when first asked for. */
  readonly usage?: SnapshotUsage;
}

export interface SnapshotterCapabilities {
  /**
   * Layers may be extracted apart from their parents and be given them at commit. Directories that the layer itself does
   * not describe, its root among them, then have the owner and mode that they were made with (the root: 0:0, 0755):
   * whoever extracts apart gives them their parent's before the commit.
   */
  readonly rebase: boolean;
  /** `maxBytes` is enforced. */
  readonly quota: boolean;
  /** Owners are mapped by mounts, when labels ask for it. */
  readonly idmap: boolean;
  /** Usage tells inodes; where false they are 0. */
  readonly countsInodes: boolean;
}

export interface Snapshotter extends AsyncDisposable {
  readonly name: string;
  readonly capabilities: SnapshotterCapabilities;
  /** @throws NOT_FOUND `SNAPSHOT_MISSING`. */
  stat(key: string): Promise<SnapshotInfo>;
  /** Replaces the labels. */
  update(key: string, labels: Readonly<Record<string, string>>): Promise<SnapshotInfo>;
  /** What the snapshot itself takes, without its parents. */
  usage(key: string): Promise<SnapshotUsage>;
  /**
   * What an active snapshot takes as the file system itself counts it, for who asks often: a few system calls, however much
   * there is. May be some seconds old. Undefined where nothing counts: ask {@link usage}, which may have to look at each file.
   */
  countedBytes?(key: string): Promise<number | undefined>;
  /** The mounts of an active snapshot or a view. @throws FAILED_PRECONDITION for a committed one. */
  mounts(key: string): Promise<readonly Mount[]>;
  /** @throws ALREADY_EXISTS `SNAPSHOT_EXISTS`; NOT_FOUND or FAILED_PRECONDITION `SNAPSHOT_PARENT_MISSING`. */
  prepare(key: string, parent: string, options?: PrepareOptions): Promise<readonly Mount[]>;
  view(key: string, parent: string, options?: SnapshotOptions): Promise<readonly Mount[]>;
  /** @throws ALREADY_EXISTS when `name` is taken; the active snapshot is then left as it was. */
  commit(name: string, key: string, options?: CommitOptions): Promise<void>;
  /** @throws FAILED_PRECONDITION `SNAPSHOT_HAS_CHILDREN`. */
  remove(key: string): Promise<void>;
  /**
   * Puts the files of everything committed so far on disk. A committed snapshot that was not synced before a power cut
   * is dropped at the next start, with all that was built on it (A2): call this before recording what relies on one.
   */
  sync(): Promise<void>;
  /** Parents come before their children. */
  walk(filter?: { readonly parent?: string; readonly kind?: SnapshotKind }): AsyncIterable<SnapshotInfo>;
  /**
   * Some of all snapshots, by key, after one of them: for who has to look at all and may not hold up the event loop as long
   * as that takes. `usage` only where it is known without counting. Optional: without it there is `walk`.
   */
  page?(after: string, limit: number): readonly ListedSnapshot[];
  /** Removes directories that no record names; returns how many. */
  cleanup(): Promise<number>;
}
