/**
 * A snapshotter that keeps each snapshot as a directory and its records in the agent's metadata: what overlayfs and native
 * have in common. A {@link DirectoryBackend} says how a new directory is filled and how it is mounted.
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
import { SnapshotDirectories } from "./directories.ts";
import { SnapshotRows, type SnapshotRow } from "./rows.ts";
import type {
  CommitOptions,
  ListedSnapshot,
  Mount,
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
  /** For tests: the boot in which this process runs. */
  readonly bootId?: string;
}

/** One snapshot on disk. */
export interface SnapshotPaths {
  /** `<root>/snapshots/<id>`: exists. */
  readonly directory: string;
  /** The snapshot's own tree, `fs` in it. */
  readonly fs: string;
  /** The parents' own trees, the nearest first. */
  readonly parents: readonly string[];
}

export interface DirectoryBackend {
  readonly name: string;
  readonly capabilities: SnapshotterCapabilities;
  /** Makes `fs`, and what else belongs into the new directory. */
  populate(paths: SnapshotPaths, kind: "active" | "view"): Promise<void>;
  mounts(paths: SnapshotPaths, kind: "active" | "view"): readonly Mount[];
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
  const directories = await SnapshotDirectories.open(root, known.length, logger);
  const boot = deps.bootId ?? bootId();
  const present = new Set(await directories.ids());
  const lost = known.filter((row) => !present.has(row.id)).map((row) => row.id);
  const dropped = await rows.dropWithDescendants([...rows.tornIds(boot), ...lost]);
  if (dropped.length > 0) logger.warn({ snapshotter: backend.name, dropped }, "snapshots did not survive a power cut");
  return new DirectorySnapshotter({ backend, rows, directories, clock, logger, bootId: boot }, openSync(root, "r"));
}

interface Parts {
  readonly backend: DirectoryBackend;
  readonly rows: SnapshotRows;
  readonly directories: SnapshotDirectories;
  readonly clock: Clock;
  readonly logger: Logger;
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

  async stat(key: string): Promise<SnapshotInfo> {
    return info(this.#parts.rows.get(key));
  }

  async update(key: string, labels: Readonly<Record<string, string>>): Promise<SnapshotInfo> {
    const { rows, clock } = this.#parts;
    await rows.updateLabels(key, labels, clock.nowMs());
    return info(rows.get(key));
  }

  async usage(key: string): Promise<SnapshotUsage> {
    const { rows, directories } = this.#parts;
    const row = rows.get(key);
    if (row.usage !== undefined) return row.usage;
    const usage = await diskUsage(directories.fs(row.id));
    if (row.kind === "committed") await rows.recordUsage(row, usage);
    return usage;
  }

  async mounts(key: string): Promise<readonly Mount[]> {
    return this.#mounts(this.#parts.rows.get(key));
  }

  prepare(key: string, parent: string, options?: SnapshotOptions): Promise<readonly Mount[]> {
    return this.#create("active", key, parent, options);
  }

  view(key: string, parent: string, options?: SnapshotOptions): Promise<readonly Mount[]> {
    return this.#create("view", key, parent, options);
  }

  async #create(
    kind: "active" | "view",
    key: string,
    parent: string,
    options: SnapshotOptions = {},
  ): Promise<readonly Mount[]> {
    const { backend, rows, directories, clock } = this.#parts;
    assertNamed(key);
    rows.assertCreatable(key, parent);
    const parents = this.#chain(parent).map((id) => directories.fs(id));
    return await directories.make(async (id) => {
      const paths = { directory: directories.path(id), fs: directories.fs(id), parents };
      await backend.populate(paths, kind);
      await rows.insert({ id, key, kind, parent, labels: options.labels ?? {} }, clock.nowMs());
      return backend.mounts(paths, kind);
    });
  }

  async commit(name: string, key: string, options: CommitOptions = {}): Promise<void> {
    const { rows, clock, bootId } = this.#parts;
    assertNamed(name);
    const row = rows.get(key);
    if (row.kind !== "active") throw notActive(row);
    const parent = this.#parentAtCommit(row, options.parent);
    const as = { name, parent, labels: options.labels ?? {}, usage: options.usage, bootId };
    await rows.commit(key, as, clock.nowMs());
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

  #mounts(row: SnapshotRow): readonly Mount[] {
    const { backend, directories } = this.#parts;
    if (row.kind === "committed") {
      throw new StatusError("FAILED_PRECONDITION", `snapshot "${row.key}": is committed; mount a view of it`, {
        reason: "SNAPSHOT_COMMITTED",
      });
    }
    const parents = this.#chain(row.parent).map((id) => directories.fs(id));
    return backend.mounts({ directory: directories.path(row.id), fs: directories.fs(row.id), parents }, row.kind);
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

/** By depth, then age: a rebased layer may well be older than its parent. */
function parentsFirst(rows: readonly SnapshotRow[]): SnapshotRow[] {
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const depths = new Map<string, number>();
  const depth = (row: SnapshotRow): number => {
    let count = depths.get(row.key);
    if (count === undefined) {
      const parent = byKey.get(row.parent);
      count = parent === undefined ? 0 : depth(parent) + 1;
      depths.set(row.key, count);
    }
    return count;
  };
  return [...rows].sort((a, b) => depth(a) - depth(b) || a.createdAtMs - b.createdAtMs || (a.key < b.key ? -1 : 1));
}
