/** The content store's SQL. Reading is here; writing is statements, for the caller to put into one transaction. */
import { parseDigest, type Digest } from "@berth/base";
import type { Metadata, SqlRow, Statement } from "@berth/metadata";
import type { BlobInfo, Labels } from "./content.ts";
import type { LabelChange } from "./labels.ts";

export interface BlobRow {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly state: "live" | "dead";
}

export interface IngestRow {
  readonly namespace: string;
  readonly ref: string;
  readonly totalBytes: number;
  readonly expected: Digest | undefined;
  readonly startedAtMs: number;
  readonly labels: Labels;
  readonly lease: string | undefined;
}

/** A blob of the whole store, for doctoring. */
export interface HeldBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

const INFO = `SELECT r.digest, b.size_bytes, r.labels, r.created_at_ms, r.updated_at_ms
  FROM blob_refs r JOIN blobs b ON b.digest = r.digest`;

export class ContentRows {
  readonly #metadata: Pick<Metadata, "all" | "get">;

  constructor(metadata: Pick<Metadata, "all" | "get">) {
    this.#metadata = metadata;
  }

  info(namespace: string, digest: Digest): BlobInfo | undefined {
    const row = this.#metadata.get(`${INFO} WHERE r.namespace = ? AND r.digest = ?`, namespace, digest);
    return row === undefined ? undefined : toInfo(row);
  }

  /** A page of a namespace's references, in the order of their digests, after `after`. */
  page(namespace: string, after: string, limit: number): BlobInfo[] {
    const sql = `${INFO} WHERE r.namespace = ? AND r.digest > ? ORDER BY r.digest LIMIT ?`;
    return this.#metadata.all(sql, namespace, after, limit).map(toInfo);
  }

  blob(digest: Digest): BlobRow | undefined {
    const row = this.#metadata.get("SELECT digest, size_bytes, state FROM blobs WHERE digest = ?", digest);
    return row === undefined ? undefined : toBlob(row);
  }

  /** Has any namespace the blob with a label of this key? */
  bearsLabel(digest: Digest, key: string): boolean {
    const sql = "SELECT 1 FROM blob_refs r JOIN json_each(r.labels) l WHERE r.digest = ? AND l.key = ? LIMIT 1";
    return this.#metadata.get(sql, digest, key) !== undefined;
  }

  /** A page of everything the store holds, dead or alive. */
  blobs(after: string, limit: number): BlobRow[] {
    const sql = "SELECT digest, size_bytes, state FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?";
    return this.#metadata.all(sql, after, limit).map(toBlob);
  }

  namespacesOf(digest: Digest): string[] {
    const rows = this.#metadata.all("SELECT namespace FROM blob_refs WHERE digest = ? ORDER BY namespace", digest);
    return rows.map((row) => String(row["namespace"]));
  }

  /** Has one of these namespaces the blob? */
  holds(digest: Digest, which: (namespace: string) => boolean): boolean {
    return this.namespacesOf(digest).some(which);
  }

  ingestLeases(): { namespace: string; lease: string }[] {
    return this.#metadata
      .all("SELECT DISTINCT namespace, lease FROM ingests WHERE lease <> '' ORDER BY namespace, lease")
      .map((row) => ({ namespace: String(row["namespace"]), lease: String(row["lease"]) }));
  }

  totals(): { blobs: number; sizeBytes: number } {
    const row = this.#metadata.get(
      "SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS size FROM blobs WHERE state = 'live'",
    );
    return { blobs: Number(row?.["n"]), sizeBytes: Number(row?.["size"]) };
  }

  ingest(namespace: string, ref: string): IngestRow | undefined {
    const row = this.#metadata.get("SELECT * FROM ingests WHERE namespace = ? AND ref = ?", namespace, ref);
    return row === undefined ? undefined : toIngest(row);
  }

  /** The ingests of one namespace, or of all. */
  ingests(namespace?: string): IngestRow[] {
    const rows =
      namespace === undefined
        ? this.#metadata.all("SELECT * FROM ingests ORDER BY namespace, ref")
        : this.#metadata.all("SELECT * FROM ingests WHERE namespace = ? ORDER BY ref", namespace);
    return rows.map(toIngest);
  }
}

/** What `info` must find afterwards; `otherwise` is for a reference that has to be there. */
type Otherwise = NonNullable<Statement["expect"]>["otherwise"];

export function insertBlob(digest: Digest, sizeBytes: number, nowMs: number): Statement {
  return {
    sql: `INSERT INTO blobs (digest, size_bytes, created_at_ms, state) VALUES (?, ?, ?, 'live')
      ON CONFLICT (digest) DO UPDATE SET state = 'live', size_bytes = excluded.size_bytes`,
    params: [digest, sizeBytes, nowMs],
  };
}

const MERGE_LABELS = `ON CONFLICT (namespace, digest) DO UPDATE
  SET labels = json_patch(labels, excluded.labels), updated_at_ms = excluded.updated_at_ms WHERE excluded.labels <> '{}'`;

/** Adds the reference; one that is there already gets the labels added to its own. */
export function insertRef(namespace: string, digest: Digest, labels: Labels, nowMs: number): Statement {
  return {
    sql: `INSERT INTO blob_refs (namespace, digest, labels, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?) ${MERGE_LABELS}`,
    params: [namespace, digest, JSON.stringify(labels), nowMs, nowMs],
  };
}

/** Fails the transaction unless the store holds the blob. */
export function requireLive(digest: Digest, otherwise: Otherwise): Statement {
  return {
    sql: "SELECT 1 FROM blobs WHERE digest = ? AND state = 'live'",
    params: [digest],
    expect: { rows: 1, otherwise },
  };
}

export function updateLabels(
  namespace: string,
  digest: Digest,
  { replace, patch }: LabelChange,
  nowMs: number,
  otherwise: Otherwise,
): Statement {
  return {
    // A merge patch: null removes.
    sql: `UPDATE blob_refs SET labels = json_patch(${replace ? "'{}'" : "labels"}, ?), updated_at_ms = ?
      WHERE namespace = ? AND digest = ?`,
    params: [JSON.stringify(patch), nowMs, namespace, digest],
    expect: { changes: 1, otherwise },
  };
}

export function deleteRef(namespace: string, digest: Digest, otherwise: Otherwise): Statement {
  return {
    sql: "DELETE FROM blob_refs WHERE namespace = ? AND digest = ?",
    params: [namespace, digest],
    expect: { changes: 1, otherwise },
  };
}

export function deleteRefs(digest: Digest): Statement {
  return { sql: "DELETE FROM blob_refs WHERE digest = ?", params: [digest] };
}

/** Marks the blob dead if nobody refers to it; `changes` tells whether it did. */
export function markDead(digest: Digest): Statement {
  return {
    sql: "UPDATE blobs SET state = 'dead' WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM blob_refs r WHERE r.digest = blobs.digest)",
    params: [digest],
  };
}

export function deleteDead(digest: Digest): Statement {
  return { sql: "DELETE FROM blobs WHERE digest = ? AND state = 'dead'", params: [digest] };
}

export function insertIngest({
  namespace,
  ref,
  totalBytes,
  expected,
  startedAtMs,
  labels,
  lease,
}: IngestRow): Statement {
  return {
    sql: `INSERT INTO ingests (namespace, ref, total_bytes, expected, started_at_ms, labels, lease)
      VALUES (?, ?, ?, ?, ?, ?, ?)`,
    params: [namespace, ref, totalBytes, expected ?? null, startedAtMs, JSON.stringify(labels), lease ?? ""],
  };
}

/** Fills in what the first writer did not know. */
export function updateIngest({ namespace, ref, totalBytes, expected, labels, lease }: IngestRow): Statement {
  return {
    sql: "UPDATE ingests SET total_bytes = ?, expected = ?, labels = ?, lease = ? WHERE namespace = ? AND ref = ?",
    params: [totalBytes, expected ?? null, JSON.stringify(labels), lease ?? "", namespace, ref],
  };
}

/** What a lease held is held by time alone again. */
export function releaseIngests(namespace: string, lease: string): Statement {
  return { sql: "UPDATE ingests SET lease = '' WHERE namespace = ? AND lease = ?", params: [namespace, lease] };
}

export function deleteIngest(namespace: string, ref: string): Statement {
  return { sql: "DELETE FROM ingests WHERE namespace = ? AND ref = ?", params: [namespace, ref] };
}

function toInfo(row: SqlRow): BlobInfo {
  return {
    digest: parseDigest(String(row["digest"])),
    sizeBytes: Number(row["size_bytes"]),
    labels: JSON.parse(String(row["labels"])) as Labels,
    createdAtMs: Number(row["created_at_ms"]),
    updatedAtMs: Number(row["updated_at_ms"]),
  };
}

function toBlob(row: SqlRow): BlobRow {
  return {
    digest: parseDigest(String(row["digest"])),
    sizeBytes: Number(row["size_bytes"]),
    state: row["state"] === "dead" ? "dead" : "live",
  };
}

function toIngest(row: SqlRow): IngestRow {
  const expected = row["expected"];
  return {
    namespace: String(row["namespace"]),
    ref: String(row["ref"]),
    totalBytes: Number(row["total_bytes"]),
    expected: typeof expected === "string" ? parseDigest(expected) : undefined,
    startedAtMs: Number(row["started_at_ms"]),
    labels: JSON.parse(String(row["labels"])) as Labels,
    lease: row["lease"] === "" ? undefined : String(row["lease"]),
  };
}
