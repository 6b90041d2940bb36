/** The rows that collection reads and writes; reading is by pages, for the event loop's sake. */
import type { Digest } from "@berth/base";
import type { Metadata, SqlRow, Statement } from "@berth/metadata";
import type { ImagePin } from "./gc.ts";

type Labels = Readonly<Record<string, string>>;

export interface ImageRoot {
  readonly namespace: string;
  readonly name: string;
  readonly target: Digest;
  readonly labels: Labels;
  /** When it was last used; for one that never was, when it was recorded. */
  readonly usedAtMs: number;
}

export type EdgeKind = "index" | "manifest" | "config" | "opaque";

/** What a document refers to: manifests of an index; config and layers of a manifest; chain ids of a config. */
export interface BlobEdges {
  readonly kind: EdgeKind;
  readonly targets: readonly string[];
}

export class GcRows {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  images(after: ImageRoot | undefined, limit: number): ImageRoot[] {
    const sql = `SELECT i.namespace, i.name, i.target_digest, i.labels, coalesce(u.used_at_ms, i.updated_at_ms) AS used
      FROM images i LEFT JOIN image_uses u ON u.namespace = i.namespace AND u.name = i.name
      WHERE (i.namespace, i.name) > (?, ?) ORDER BY i.namespace, i.name LIMIT ?`;
    return this.#metadata.all(sql, after?.namespace ?? "", after?.name ?? "", limit).map(toImageRoot);
  }

  /** Pins that last, of all namespaces or one. */
  pins(nowMs: number, namespace?: string): ImagePin[] {
    const live = "SELECT * FROM image_pins WHERE (until_ms IS NULL OR until_ms > ?)";
    const rows =
      namespace === undefined
        ? this.#metadata.all(live, nowMs)
        : this.#metadata.all(`${live} AND namespace = ? ORDER BY name, holder`, nowMs, namespace);
    return rows.map(toPin);
  }

  /** Every namespace with blobs: those that pull and those that only clients write to. */
  blobNamespaces(): string[] {
    // A page per namespace, through the primary key; content's contract has no such list.
    const namespaces: string[] = [];
    for (let after = ""; ;) {
      const row = this.#metadata.get("SELECT min(namespace) AS n FROM blob_refs WHERE namespace > ?", after);
      if (row === undefined || row["n"] === null) return namespaces;
      after = String(row["n"]);
      namespaces.push(after);
    }
  }

  edges(digest: string): BlobEdges | undefined {
    const row = this.#metadata.get("SELECT kind, targets FROM blob_edges WHERE digest = ?", digest);
    if (row === undefined) return undefined;
    return { kind: String(row["kind"]) as EdgeKind, targets: JSON.parse(String(row["targets"])) as string[] };
  }
}

export function insertEdges(digest: Digest, { kind, targets }: BlobEdges): Statement {
  return {
    sql: "INSERT INTO blob_edges VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    params: [digest, kind, JSON.stringify(targets)],
  };
}

export function deleteEdges(digest: Digest): Statement {
  return { sql: "DELETE FROM blob_edges WHERE digest = ?", params: [digest] };
}

/** Removes an image unless its target changed, or somebody pinned or leased it, since it was chosen. */
export function evictImage({ namespace, name, target }: ImageRoot, nowMs: number): Statement {
  return {
    sql: `DELETE FROM images WHERE namespace = ?1 AND name = ?2 AND target_digest = ?3
      AND NOT EXISTS (SELECT 1 FROM image_pins p
        WHERE p.namespace = ?1 AND p.name = ?2 AND (p.until_ms IS NULL OR p.until_ms > ?4))
      AND NOT EXISTS (SELECT 1 FROM lease_resources r JOIN leases l ON l.namespace = r.namespace AND l.id = r.lease
        WHERE r.namespace = ?1 AND r.type = 'images' AND r.id = ?2)`,
    params: [namespace, name, target, nowMs],
  };
}

export function insertPin({ namespace, name, holder, untilMs }: ImagePin): Statement {
  return {
    sql: `INSERT INTO image_pins VALUES (?, ?, ?, ?)
      ON CONFLICT (namespace, name, holder) DO UPDATE SET until_ms = excluded.until_ms`,
    params: [namespace, name, holder, untilMs ?? null],
  };
}

export function deletePin(namespace: string, name: string, holder: string): Statement {
  return {
    sql: "DELETE FROM image_pins WHERE namespace = ? AND name = ? AND holder = ?",
    params: [namespace, name, holder],
    expect: {
      changes: 1,
      otherwise: {
        code: "NOT_FOUND",
        reason: "PIN_MISSING",
        message: `image "${name}" of namespace "${namespace}" is not pinned by "${holder}"`,
      },
    },
  };
}

/** What speaks of an image by its name goes with the name, in the same transaction. */
export function forgetImage(namespace: string, name: string): readonly Statement[] {
  const gone = "namespace = ?1 AND name = ?2 AND NOT EXISTS (SELECT 1 FROM images WHERE namespace = ?1 AND name = ?2)";
  return [
    { sql: `DELETE FROM image_pins WHERE ${gone}`, params: [namespace, name] },
    { sql: `DELETE FROM image_uses WHERE ${gone}`, params: [namespace, name] },
  ];
}

/** What is known of blobs that are gone: a crash may leave it, for it is forgotten after them. */
export function forgetGoneBlobs(): readonly Statement[] {
  return [
    { sql: "DELETE FROM blob_edges WHERE digest NOT IN (SELECT digest FROM blobs)" },
    { sql: "DELETE FROM layer_diffs WHERE blob NOT IN (SELECT digest FROM blobs)" },
  ];
}

export function expirePins(nowMs: number): Statement {
  return { sql: "DELETE FROM image_pins WHERE until_ms <= ?", params: [nowMs] };
}

export function upsertUse(namespace: string, name: string, usedAtMs: number): Statement {
  return {
    sql: `INSERT INTO image_uses SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM images WHERE namespace = ?1 AND name = ?2)
      ON CONFLICT (namespace, name) DO UPDATE SET used_at_ms = max(used_at_ms, excluded.used_at_ms)`,
    params: [namespace, name, usedAtMs],
  };
}

function toImageRoot(row: SqlRow): ImageRoot {
  return {
    namespace: String(row["namespace"]),
    name: String(row["name"]),
    target: String(row["target_digest"]) as Digest,
    labels: JSON.parse(String(row["labels"])) as Labels,
    usedAtMs: Number(row["used"]),
  };
}

function toPin(row: SqlRow): ImagePin {
  const until = row["until_ms"];
  return {
    namespace: String(row["namespace"]),
    name: String(row["name"]),
    holder: String(row["holder"]),
    ...(until === null ? {} : { untilMs: Number(until) }),
  };
}
