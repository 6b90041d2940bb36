/**
 * The records of snapshots, shared by every implementation that keeps its snapshots as directories.
 *
 * Owns the table `snapshots` and the rules that must hold between rows; knows nothing of files or mounts. Each change is
 * one transaction whose expectations are checked by the database itself, so of two concurrent callers exactly one wins.
 *
 * `unsynced_boot` is the boot id in which a snapshot was committed, until a sync has put its files on disk (A2): after a
 * power cut the row names an earlier boot, and the snapshot is dropped with all that was built on it. An active snapshot
 * that is volatile has it from the start.
 */
import { StatusError, type StatusCode } from "@berth/base";
import type { Metadata, Migration, SqlRow, Statement } from "@berth/metadata";
import type { SnapshotInfo, SnapshotKind, SnapshotUsage } from "./snapshotter.ts";

export const snapshotMigrations: readonly Migration[] = [
  {
    name: "snapshots-0001-snapshots",
    sql: `
      CREATE TABLE snapshots (
        snapshotter TEXT NOT NULL,
        key TEXT NOT NULL,
        id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
        parent TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        size_bytes INTEGER,
        inodes INTEGER,
        unsynced_boot TEXT,
        PRIMARY KEY (snapshotter, key)
      ) STRICT, WITHOUT ROWID;
      CREATE UNIQUE INDEX snapshots_id ON snapshots (snapshotter, id);
      CREATE INDEX snapshots_parent ON snapshots (snapshotter, parent);
      CREATE INDEX snapshots_unsynced ON snapshots (snapshotter, unsynced_boot) WHERE unsynced_boot IS NOT NULL;
    `,
  },
  {
    name: "snapshots-0002-refs",
    sql: `
      CREATE TABLE snapshot_refs (
        snapshotter TEXT NOT NULL,
        name TEXT NOT NULL,
        namespace TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        PRIMARY KEY (snapshotter, name, namespace)
      ) STRICT, WITHOUT ROWID;
    `,
  },
];

/** A snapshot with what only its implementation needs to know. */
export interface SnapshotRow extends SnapshotInfo {
  /** Names its directory; never used again, whatever becomes of the row (see ids.ts). */
  readonly id: string;
  readonly usage: SnapshotUsage | undefined;
}

export interface NewSnapshot {
  readonly id: string;
  readonly key: string;
  readonly kind: SnapshotKind;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Given for one whose files are never put on disk: it does not outlive this boot. */
  readonly volatileBoot?: string | undefined;
}

export interface CommittedAs {
  readonly name: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly usage: SnapshotUsage | undefined;
  readonly bootId: string;
}

export class SnapshotRows {
  readonly #metadata: Metadata;
  readonly #snapshotter: string;

  constructor(metadata: Metadata, snapshotter: string) {
    this.#metadata = metadata;
    this.#snapshotter = snapshotter;
  }

  find(key: string): SnapshotRow | undefined {
    const row = this.#metadata.get("SELECT * FROM snapshots WHERE snapshotter = ? AND key = ?", this.#snapshotter, key);
    return row === undefined ? undefined : decode(row);
  }

  /** @throws NOT_FOUND `SNAPSHOT_MISSING`. */
  get(key: string): SnapshotRow {
    const row = this.find(key);
    if (row === undefined) throw toError(missing(key));
    return row;
  }

  /** The directory ids of a snapshot's parents, nearest first. */
  parentIds(key: string): string[] {
    const rows = this.#metadata.all(
      `WITH RECURSIVE chain(id, parent, depth) AS (
         SELECT id, parent, 0 FROM snapshots WHERE snapshotter = ?1 AND key = ?2
         UNION ALL
         SELECT s.id, s.parent, c.depth + 1 FROM chain c JOIN snapshots s ON s.snapshotter = ?1 AND s.key = c.parent
       )
       SELECT id FROM chain WHERE depth > 0 ORDER BY depth`,
      this.#snapshotter,
      key,
    );
    return rows.map((row) => String(row["id"]));
  }

  /** All rows, or the children of one; in no order. */
  list(parent?: string): SnapshotRow[] {
    const rows =
      parent === undefined
        ? this.#metadata.all("SELECT * FROM snapshots WHERE snapshotter = ?", this.#snapshotter)
        : this.#metadata.all("SELECT * FROM snapshots WHERE snapshotter = ? AND parent = ?", this.#snapshotter, parent);
    return rows.map(decode);
  }

  /** Some rows, by key, after one of them. */
  page(after: string, limit: number): SnapshotRow[] {
    const sql = "SELECT * FROM snapshots WHERE snapshotter = ? AND key > ? ORDER BY key LIMIT ?";
    return this.#metadata.all(sql, this.#snapshotter, after, limit).map(decode);
  }

  hasId(id: string): boolean {
    const sql = "SELECT 1 FROM snapshots WHERE snapshotter = ? AND id = ?";
    return this.#metadata.get(sql, this.#snapshotter, id) !== undefined;
  }

  async insert(snapshot: NewSnapshot, nowMs: number): Promise<void> {
    const { id, key, kind, parent, labels, volatileBoot = null } = snapshot;
    await this.#metadata.transact([
      this.#mustBeFree(key),
      ...this.#mustBeCommitted(key, parent),
      {
        sql: `INSERT INTO snapshots (snapshotter, key, id, kind, parent, labels, created_at_ms, updated_at_ms,
                unsynced_boot)
              VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        params: [this.#snapshotter, key, id, kind, parent, JSON.stringify(labels), nowMs, nowMs, volatileBoot],
      },
    ]);
  }

  /** Turns an active snapshot into a committed one under its new name; labels are replaced, as containerd does. */
  async commit(key: string, as: CommittedAs, nowMs: number): Promise<void> {
    const { name, parent, labels, usage, bootId } = as;
    await this.#metadata.transact([
      // A name that equals the key is free for this one commit.
      ...(name === key ? [] : [this.#mustBeFree(name)]),
      ...this.#mustBeCommitted(key, parent),
      {
        sql: `UPDATE snapshots SET key = ?, kind = 'committed', parent = ?, labels = ?, created_at_ms = ?,
                updated_at_ms = ?, size_bytes = ?, inodes = ?, unsynced_boot = ?
              WHERE snapshotter = ? AND key = ? AND kind = 'active'`,
        params: [
          name,
          parent,
          JSON.stringify(labels),
          nowMs,
          nowMs,
          usage?.sizeBytes ?? null,
          usage?.inodes ?? null,
          bootId,
          this.#snapshotter,
          key,
        ],
        expect: { changes: 1, otherwise: missing(key) },
      },
    ]);
  }

  async updateLabels(key: string, labels: Readonly<Record<string, string>>, nowMs: number): Promise<void> {
    await this.#metadata.transact([
      {
        sql: "UPDATE snapshots SET labels = ?, updated_at_ms = ? WHERE snapshotter = ? AND key = ?",
        params: [JSON.stringify(labels), nowMs, this.#snapshotter, key],
        expect: { changes: 1, otherwise: missing(key) },
      },
    ]);
  }

  /** Remembers what a committed snapshot takes; it never changes again. */
  async recordUsage(row: SnapshotRow, usage: SnapshotUsage): Promise<void> {
    await this.#metadata.transact([
      {
        sql: `UPDATE snapshots SET size_bytes = ?, inodes = ?
              WHERE snapshotter = ? AND id = ? AND kind = 'committed'`,
        params: [usage.sizeBytes, usage.inodes, this.#snapshotter, row.id],
      },
    ]);
  }

  /** Deletes the row and returns the id of the directory that nobody names any more. */
  async remove(key: string): Promise<string> {
    const children = "SELECT 1 FROM snapshots WHERE snapshotter = ? AND parent = ? LIMIT 1";
    const [, deleted] = await this.#metadata.transact([
      { sql: children, params: [this.#snapshotter, key], expect: { rows: 0, otherwise: hasChildren(key) } },
      {
        sql: "DELETE FROM snapshots WHERE snapshotter = ? AND key = ? RETURNING id",
        params: [this.#snapshotter, key],
        expect: { rows: 1, otherwise: missing(key) },
      },
    ]);
    return String(deleted!.rows[0]!["id"]);
  }

  /** Ids of committed snapshots whose files may not be on disk yet. */
  unsyncedIds(): string[] {
    const sql = "SELECT id FROM snapshots WHERE snapshotter = ? AND unsynced_boot IS NOT NULL AND kind = 'committed'";
    return this.#metadata.all(sql, this.#snapshotter).map((row) => String(row["id"]));
  }

  async markSynced(ids: readonly string[]): Promise<void> {
    const sql = "UPDATE snapshots SET unsynced_boot = NULL WHERE snapshotter = ? AND id = ?";
    await this.#metadata.transact(ids.map((id) => ({ sql, params: [this.#snapshotter, id] })));
  }

  /** Ids of snapshots that were committed in an earlier boot and never synced, and of that boot's volatile ones. */
  tornIds(bootId: string): string[] {
    const sql = "SELECT id FROM snapshots WHERE snapshotter = ? AND unsynced_boot IS NOT NULL AND unsynced_boot <> ?";
    return this.#metadata.all(sql, this.#snapshotter, bootId).map((row) => String(row["id"]));
  }

  /** Deletes rows and all rows built on them; returns their keys. */
  async dropWithDescendants(ids: readonly string[]): Promise<string[]> {
    const sql = `
      WITH RECURSIVE doomed(key) AS (
        SELECT key FROM snapshots WHERE snapshotter = ?1 AND id = ?2
        UNION
        SELECT s.key FROM doomed d JOIN snapshots s ON s.snapshotter = ?1 AND s.parent = d.key
      )
      DELETE FROM snapshots WHERE snapshotter = ?1 AND key IN (SELECT key FROM doomed) RETURNING key`;
    const results = await this.#metadata.transact(ids.map((id) => ({ sql, params: [this.#snapshotter, id] })));
    return results.flatMap((result) => result.rows.map((row) => String(row["key"])));
  }

  /** What `insert` would throw, before anything is done for it; `insert` has the last word. */
  assertCreatable(key: string, parent: string): void {
    if (this.find(key) !== undefined) throw toError(exists(key));
    if (parent === "") return;
    const kind = this.find(parent)?.kind;
    if (kind === undefined) throw toError(parentAbsent(key, parent));
    if (kind !== "committed") throw toError(parentNotCommitted(key, parent));
  }

  /** What `commit` would throw for its name. */
  assertCommittable(name: string, key: string): void {
    if (name !== key && this.find(name) !== undefined) throw toError(exists(name));
  }

  #mustBeFree(key: string): Statement {
    const sql = "SELECT 1 FROM snapshots WHERE snapshotter = ? AND key = ?";
    return { sql, params: [this.#snapshotter, key], expect: { rows: 0, otherwise: exists(key) } };
  }

  #mustBeCommitted(key: string, parent: string): Statement[] {
    if (parent === "") return [];
    const sql = "SELECT 1 FROM snapshots WHERE snapshotter = ? AND key = ?";
    const params = [this.#snapshotter, parent];
    return [
      { sql, params, expect: { rows: 1, otherwise: parentAbsent(key, parent) } },
      {
        sql: `${sql} AND kind = 'committed'`,
        params,
        expect: { rows: 1, otherwise: parentNotCommitted(key, parent) },
      },
    ];
  }
}

/** An error before it is one, as the metadata's expectations want it. */
interface Failure {
  readonly code: StatusCode;
  readonly reason: string;
  readonly message: string;
}

function toError({ code, reason, message }: Failure): StatusError {
  return new StatusError(code, message, { reason });
}

function missing(key: string): Failure {
  return { code: "NOT_FOUND", reason: "SNAPSHOT_MISSING", message: `snapshot "${key}": does not exist` };
}

function exists(key: string): Failure {
  return { code: "ALREADY_EXISTS", reason: "SNAPSHOT_EXISTS", message: `snapshot "${key}": exists already` };
}

function parentAbsent(key: string, parent: string): Failure {
  const message = `snapshot "${key}": parent "${parent}" does not exist`;
  return { code: "NOT_FOUND", reason: "SNAPSHOT_PARENT_MISSING", message };
}

function parentNotCommitted(key: string, parent: string): Failure {
  const message = `snapshot "${key}": parent "${parent}" is not committed`;
  return { code: "FAILED_PRECONDITION", reason: "SNAPSHOT_PARENT_MISSING", message };
}

function hasChildren(key: string): Failure {
  const message = `snapshot "${key}": has children; remove them first`;
  return { code: "FAILED_PRECONDITION", reason: "SNAPSHOT_HAS_CHILDREN", message };
}

function decode(row: SqlRow): SnapshotRow {
  const size = row["size_bytes"];
  return {
    id: String(row["id"]),
    key: String(row["key"]),
    kind: String(row["kind"]) as SnapshotKind,
    parent: String(row["parent"]),
    labels: JSON.parse(String(row["labels"])) as Record<string, string>,
    createdAtMs: Number(row["created_at_ms"]),
    updatedAtMs: Number(row["updated_at_ms"]),
    usage: size === null ? undefined : { sizeBytes: Number(size), inodes: Number(row["inodes"]) },
  };
}
