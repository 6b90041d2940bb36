/**
 * Which namespace may see which shared layer: the table `snapshot_refs`.
 *
 * A row is a grant: the namespace proved that it may have the layer (D7). Labels and times are the namespace's own, so that
 * one tenant's marks on a shared layer are not another's to see.
 */
import type { Metadata, SqlRow } from "@berth/metadata";

export interface SnapshotRef {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export class SnapshotRefs {
  readonly #metadata: Metadata;
  readonly #snapshotter: string;

  constructor(metadata: Metadata, snapshotter: string) {
    this.#metadata = metadata;
    this.#snapshotter = snapshotter;
  }

  find(namespace: string, name: string): SnapshotRef | undefined {
    const sql = "SELECT * FROM snapshot_refs WHERE snapshotter = ? AND name = ? AND namespace = ?";
    const row = this.#metadata.get(sql, this.#snapshotter, name, namespace);
    return row === undefined ? undefined : decode(row);
  }

  /** Does any namespace refer to it? */
  isHeld(name: string): boolean {
    const sql = "SELECT 1 FROM snapshot_refs WHERE snapshotter = ? AND name = ? LIMIT 1";
    return this.#metadata.get(sql, this.#snapshotter, name) !== undefined;
  }

  /** All names that a namespace refers to; of all namespaces without one. */
  names(namespace?: string): Set<string> {
    const rows =
      namespace === undefined
        ? this.#metadata.all("SELECT DISTINCT name FROM snapshot_refs WHERE snapshotter = ?", this.#snapshotter)
        : this.#metadata.all(
            "SELECT name FROM snapshot_refs WHERE snapshotter = ? AND namespace = ?",
            this.#snapshotter,
            namespace,
          );
    return new Set(rows.map((row) => String(row["name"])));
  }

  /** A page of all grants, after one of them. */
  page(after: { readonly name: string; readonly namespace: string } | undefined, limit: number): SnapshotRef[] {
    const sql = `SELECT * FROM snapshot_refs WHERE snapshotter = ? AND (name, namespace) > (?, ?)
      ORDER BY name, namespace LIMIT ?`;
    return this.#metadata.all(sql, this.#snapshotter, after?.name ?? "", after?.namespace ?? "", limit).map(decode);
  }

  /** Grants; names already granted keep their labels, unless labels are given. */
  async add(
    namespace: string,
    names: readonly string[],
    nowMs: number,
    labels?: Readonly<Record<string, string>>,
  ): Promise<void> {
    const conflict = labels === undefined ? "NOTHING" : "UPDATE SET labels = excluded.labels";
    const sql = `INSERT INTO snapshot_refs (snapshotter, name, namespace, labels, created_at_ms, updated_at_ms)
                 VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO ${conflict}`;
    const text = JSON.stringify(labels ?? {});
    await this.#metadata.transact(
      names.map((name) => ({ sql, params: [this.#snapshotter, name, namespace, text, nowMs, nowMs] })),
    );
  }

  /** False when there is no such grant. */
  async updateLabels(
    namespace: string,
    name: string,
    labels: Readonly<Record<string, string>>,
    nowMs: number,
  ): Promise<boolean> {
    const [updated] = await this.#metadata.transact([
      {
        sql: `UPDATE snapshot_refs SET labels = ?, updated_at_ms = ?
              WHERE snapshotter = ? AND name = ? AND namespace = ?`,
        params: [JSON.stringify(labels), nowMs, this.#snapshotter, name, namespace],
      },
    ]);
    return updated!.changes === 1;
  }

  async drop(namespace: string, name: string): Promise<void> {
    await this.#metadata.transact([
      {
        sql: "DELETE FROM snapshot_refs WHERE snapshotter = ? AND name = ? AND namespace = ?",
        params: [this.#snapshotter, name, namespace],
      },
    ]);
  }

  /** Drops every namespace's grant of a layer that is no more. */
  async dropEverywhere(name: string): Promise<void> {
    const sql = "DELETE FROM snapshot_refs WHERE snapshotter = ? AND name = ?";
    await this.#metadata.transact([{ sql, params: [this.#snapshotter, name] }]);
  }
}

function decode(row: SqlRow): SnapshotRef {
  return {
    namespace: String(row["namespace"]),
    name: String(row["name"]),
    labels: JSON.parse(String(row["labels"])) as Record<string, string>,
    createdAtMs: Number(row["created_at_ms"]),
    updatedAtMs: Number(row["updated_at_ms"]),
  };
}
