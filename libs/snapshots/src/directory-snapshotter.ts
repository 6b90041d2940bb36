/**
 * A snapshotter that keeps each snapshot in a directory and its records in the agent's metadata: what overlayfs, native,
 * btrfs and zfs have in common. A {@link DirectoryBackend} says how a new directory is filled and how it is mounted, and
 * owns what the snapshot has beside plain files (a subvolume, a data set, a limit).
 *
 * Order of work, for invariant 3 of the contract:
 *  - make: directory, then row. A crash in between leaves an orphan directory for `cleanup`.
 *  - remove: row, then a rename into the trash, then deleting in the background.
 *  - commit: only the row; `sync` puts the files on disk and then clears the row's mark. `open` drops what is marked by an
 *    earlier boot, and rows whose directory a power cut took.
 */
import { closeSync, openSync } from "node:fs";
import { StatusError, silentLogger, systemClock, type Clock, type Logger } from "@berth/base";
import { bootId, syncfs } from "@berth/linux";
import type { Metadata } from "@berth/metadata";
import { SnapshotDirectories, type Volumes } from "./directories.ts";
import { assertSupported, resolveOptions, wantedBy, type MissingQuota, type Wanted } from "./options.ts";
import { parentsFirst } from "./order.ts";
import { SnapshotRows, type SnapshotRow } from "./rows.ts";
import type {
  CommitOptions,
  ListedSnapshot,
  Mount,
  PrepareOptions,
  Snapshotter,
  SnapshotInfo,
  SnapshotKind,
  SnapshotOptions,
  SnapshotterCapabilities,
  SnapshotUsage,
} from "./snapshotter.ts";
import { diskUsage } from "./usage.ts";

export interface SnapshotterDeps {
  /** Opened with `snapshotMigrations`; not closed by the snapshotter. */
  readonly metadata: Metadata;
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** Where sizes cannot be bounded and a caller wants it: an error (default) or a warning. */
  readonly missingQuota?: MissingQuota;
  /** For tests: the boot in which this process runs. */
  readonly bootId?: string;
}

/** One snapshot on disk. */
export interface SnapshotPaths {
  /** A number as text; never another snapshot's, before or after. */
  readonly id: string;
  /** `<root>/snapshots/<id>`: exists. */
  readonly directory: string;
  /** The snapshot's own tree, `fs` in it. */
  readonly fs: string;
  /** The parents' own trees, the nearest first. */
  readonly parents: readonly string[];
  /** And their ids. */
  readonly parentIds: readonly string[];
}

type Mounts = readonly Mount[];

export interface DirectoryBackend {
  readonly name: string;
  readonly capabilities: SnapshotterCapabilities;
  /** Why, where a capability is missing. */
  readonly reasons?: { readonly quota?: string | undefined; readonly idmap?: string | undefined };
  /** Makes `fs`, and what else belongs into the new directory; bounds it if `maxBytes` is wanted. */
  populate(paths: SnapshotPaths, kind: "active" | "view", wanted: Wanted): Promise<void>;
  mounts(paths: SnapshotPaths, kind: "active" | "view", wanted: Wanted): Mounts | Promise<Mounts>;
  /** Makes an active snapshot fit to be a parent, just before its record says committed. */
  seal?(paths: SnapshotPaths): Promise<void>;
  /** Takes `seal` back, because the record could not be changed. */
  unseal?(paths: SnapshotPaths): Promise<void>;
  /** For each active snapshot at `open`: a crash may have come between seal and record. */
  resume?(paths: SnapshotPaths): Promise<void>;
  /** Where counting `fs` does not tell what the snapshot itself takes. */
  usage?(paths: SnapshotPaths): Promise<SnapshotUsage>;
  /** What the file system has counted of an active snapshot, at no cost; undefined where it has not. */
  countedBytes?(paths: SnapshotPaths): number | undefined;
  readonly volumes?: Volumes;
}

/** Opens a snapshotter on `root`; one process at a time, with the same metadata each time. */
export async function openDirectorySnapshotter(
  deps: SnapshotterDeps,
  root: string,
  backend: DirectoryBackend,
): Promise<Snapshotter> {
  const { clock = systemClock, logger = silentLogger } = deps;
  const rows = new SnapshotRows(deps.metadata, backend.name);
  const known = rows.list();
  const recorded = new Set(known.map(({ id }) => id));
  const directories = await SnapshotDirectories.open(root, recorded, logger, backend.volumes);
  const boot = deps.bootId ?? bootId();
  const present = await directories.whole();
  const lost = known.filter((row) => !present.has(row.id)).map((row) => row.id);
  const dropped = await rows.dropWithDescendants([...rows.tornIds(boot), ...lost]);
  if (dropped.length > 0) logger.warn({ snapshotter: backend.name, dropped }, "snapshots did not survive a power cut");
  const missingQuota = deps.missingQuota ?? "refuse";
  const parts = { backend, rows, directories, clock, logger, missingQuota, bootId: boot };
  const snapshotter = new DirectorySnapshotter(parts, openSync(root, "r"));
  await snapshotter.resume();
  return snapshotter;
}

interface Parts {
  readonly backend: DirectoryBackend;
  readonly rows: SnapshotRows;
  readonly directories: SnapshotDirectories;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly missingQuota: MissingQuota;
  readonly bootId: string;
}

class DirectorySnapshotter implements Snapshotter {
  readonly name: string;
  readonly capabilities: SnapshotterCapabilities;
  readonly #parts: Parts;
  /** Open since before the first write, so that syncfs reports every failed write-back since. -1 once closed. */
  #rootFd: number;
  #syncing: Promise<void> | undefined;
  #nextSync: Promise<void> | undefined;

  constructor(parts: Parts, rootFd: number) {
    this.name = parts.backend.name;
    this.capabilities = parts.backend.capabilities;
    this.#parts = parts;
    this.#rootFd = rootFd;
  }

  /** Active snapshots whose commit was cut short are writable again. */
  async resume(): Promise<void> {
    const { backend, rows } = this.#parts;
    if (backend.resume === undefined) return;
    for (const row of rows.list()) if (row.kind === "active") await backend.resume(this.#paths(row));
  }

  async stat(key: string): Promise<SnapshotInfo> {
    return info(this.#parts.rows.get(key));
  }

  async update(key: string, labels: Readonly<Record<string, string>>): Promise<SnapshotInfo> {
    const { rows, clock } = this.#parts;
    // Those that ask for something are read again with every mount.
    resolveOptions({ labels });
    await rows.updateLabels(key, labels, clock.nowMs());
    return info(rows.get(key));
  }

  async usage(key: string): Promise<SnapshotUsage> {
    const { rows, directories, backend } = this.#parts;
    const row = rows.get(key);
    if (row.usage !== undefined) return row.usage;
    const usage = await (backend.usage?.(this.#paths(row)) ?? diskUsage(directories.fs(row.id)));
    if (row.kind === "committed") await rows.recordUsage(row, usage);
    return usage;
  }

  async countedBytes(key: string): Promise<number | undefined> {
    const row = this.#parts.rows.get(key);
    return row.kind === "active" ? this.#parts.backend.countedBytes?.(this.#paths(row)) : undefined;
  }

  async mounts(key: string): Promise<readonly Mount[]> {
    return this.#mounts(this.#parts.rows.get(key));
  }

  prepare(key: string, parent: string, options: PrepareOptions = {}): Promise<Mounts> {
    return this.#create("active", key, parent, options);
  }

  view(key: string, parent: string, options: SnapshotOptions = {}): Promise<Mounts> {
    return this.#create("view", key, parent, options);
  }

  async #create(kind: "active" | "view", key: string, parent: string, options: PrepareOptions): Promise<Mounts> {
    const { backend, rows, directories, clock } = this.#parts;
    assertNamed(key);
    rows.assertCreatable(key, parent);
    const wanted = this.#wanted(kind, key, options);
    const parentIds = this.#chain(parent);
    return await directories.make(async (id) => {
      const paths = this.#pathsOf(id, parentIds);
      await backend.populate(paths, kind, wanted);
      const volatileBoot = wanted.volatile ? this.#parts.bootId : undefined;
      await rows.insert({ id, key, kind, parent, labels: wanted.labels, volatileBoot }, clock.nowMs());
      return await backend.mounts(paths, kind, wanted);
    });
  }

  #wanted(kind: "active" | "view", key: string, options: PrepareOptions): Wanted {
    const { backend, missingQuota, logger } = this.#parts;
    const { name: snapshotter, capabilities, reasons = {} } = backend;
    const asked = resolveOptions(options);
    // Nothing can be written into a view, so there is nothing to bound or to lose.
    const wanted = kind === "view" ? { ...asked, maxBytes: undefined, volatile: false } : asked;
    return assertSupported(key, wanted, { snapshotter, capabilities, missingQuota, reasons, logger });
  }

  async commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { rows, clock, bootId, backend } = this.#parts;
    assertNamed(name);
    const row = rows.get(key);
    if (row.kind !== "active") throw notActive(row);
    const parent = this.#parentAtCommit(row, options.parent);
    const as = { name, parent, labels: options.labels ?? {}, usage: options.usage, bootId };
    if (backend.seal === undefined) return await rows.commit(key, as, clock.nowMs());
    const paths = this.#paths(row);
    rows.assertCommittable(name, key);
    await backend.seal(paths);
    try {
      await rows.commit(key, as, clock.nowMs());
    } catch (error) {
      // It may be committed by now, by another; then it stays sealed.
      const now = rows.find(key);
      if (now?.id === row.id && now.kind === "active") await backend.unseal?.(paths);
      throw error;
    }
  }

  #parentAtCommit(row: SnapshotRow, wanted: string | undefined): string {
    if (wanted === undefined || wanted === row.parent) return row.parent;
    const refuse = (code: "INVALID_ARGUMENT" | "UNIMPLEMENTED", reason: string, why: string): StatusError =>
      new StatusError(code, `snapshot "${row.key}": ${why}`, { reason });
    if (row.parent !== "") throw refuse("INVALID_ARGUMENT", "SNAPSHOT_PARENT_FIXED", `has parent "${row.parent}"`);
    if (this.capabilities.rebase) return wanted;
    throw refuse("UNIMPLEMENTED", "SNAPSHOT_REBASE_UNSUPPORTED", `${this.name} cannot give it a parent at commit`);
  }

  async remove(key: string): Promise<void> {
    const { rows, directories } = this.#parts;
    await directories.discard(await rows.remove(key));
  }

  sync(): Promise<void> {
    // One runs, one waits; whoever asks while one waits shares it: its list is made when it starts.
    this.#nextSync ??= (this.#syncing ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        this.#syncing = this.#nextSync;
        this.#nextSync = undefined;
        return this.#syncNow();
      });
    return this.#nextSync;
  }

  async #syncNow(): Promise<void> {
    const { rows } = this.#parts;
    const ids = rows.unsyncedIds();
    if (ids.length === 0) return;
    await syncfs(this.#rootFd);
    await rows.markSynced(ids);
  }

  async *walk(filter: { readonly parent?: string; readonly kind?: SnapshotKind } = {}): AsyncIterable<SnapshotInfo> {
    for (const row of parentsFirst(this.#parts.rows.list(filter.parent))) {
      if (filter.kind === undefined || row.kind === filter.kind) yield info(row);
    }
  }

  page(after: string, limit: number): readonly ListedSnapshot[] {
    return this.#parts.rows.page(after, limit).map((row) => ({ ...info(row), usage: row.usage }));
  }

  cleanup(): Promise<number> {
    const { rows, directories } = this.#parts;
    return directories.sweep((id) => rows.hasId(id));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#syncing, this.#nextSync, this.#parts.directories.settled()]);
    const fd = this.#rootFd;
    this.#rootFd = -1;
    if (fd >= 0) closeSync(fd);
  }

  /** Ids of a committed snapshot and its parents. */
  #chain(parent: string): string[] {
    const { rows } = this.#parts;
    return parent === "" ? [] : [rows.get(parent).id, ...rows.parentIds(parent)];
  }

  #paths(row: SnapshotRow): SnapshotPaths {
    return this.#pathsOf(row.id, this.#chain(row.parent));
  }

  #pathsOf(id: string, parentIds: readonly string[]): SnapshotPaths {
    const { directories } = this.#parts;
    const parents = parentIds.map((parentId) => directories.fs(parentId));
    return { id, directory: directories.path(id), fs: directories.fs(id), parents, parentIds };
  }

  async #mounts(row: SnapshotRow): Promise<Mounts> {
    if (row.kind === "committed") {
      throw new StatusError("FAILED_PRECONDITION", `snapshot "${row.key}": is committed; mount a view of it`, {
        reason: "SNAPSHOT_COMMITTED",
      });
    }
    return await this.#parts.backend.mounts(this.#paths(row), row.kind, wantedBy(row.labels));
  }
}

function assertNamed(key: string): void {
  if (key === "") throw StatusError.invalid([{ field: "key", description: "must not be empty" }], "SNAPSHOT_KEY_EMPTY");
}

function notActive(row: SnapshotRow): StatusError {
  return new StatusError("FAILED_PRECONDITION", `snapshot "${row.key}": is ${row.kind}, not active`, {
    reason: "SNAPSHOT_NOT_ACTIVE",
  });
}

function info({ key, kind, parent, labels, createdAtMs, updatedAtMs }: SnapshotRow): SnapshotInfo {
  return { key, kind, parent, labels, createdAtMs, updatedAtMs };
}
