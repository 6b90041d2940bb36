/** The image service's rows: SQL in, records out. Writes are statements, for callers to join into one transaction. */
import { StatusError, type Digest } from "@berth/base";
import type { Metadata, SqlRow, Statement } from "@berth/metadata";
import type { Descriptor } from "@berth/model";
import type { ImageRecord } from "./images.ts";

/** An image with the manifest that was chosen from its target for this host. */
export interface ImageRow {
  readonly record: ImageRecord;
  readonly manifest: Digest;
}

export class ImageRows {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  find(namespace: string, name: string): ImageRow | undefined {
    const row = this.#metadata.get("SELECT * FROM images WHERE namespace = ? AND name = ?", namespace, name);
    return row === undefined ? undefined : toImage(row);
  }

  /** @throws NOT_FOUND `IMAGE_MISSING` */
  get(namespace: string, name: string): ImageRow {
    const found = this.find(namespace, name);
    if (found !== undefined) return found;
    throw imageMissing(namespace, name);
  }

  list(namespace: string): ImageRow[] {
    return this.#metadata.all("SELECT * FROM images WHERE namespace = ? ORDER BY name", namespace).map(toImage);
  }

  all(): ImageRow[] {
    return this.#metadata.all("SELECT * FROM images ORDER BY namespace, name").map(toImage);
  }

  namespaces(): string[] {
    return this.#metadata
      .all("SELECT namespace FROM image_namespaces ORDER BY namespace")
      .map((r) => text(r, "namespace"));
  }

  /** What a blob decompresses to, if that was computed here. */
  diffOf(blob: Digest): Digest | undefined {
    const row = this.#metadata.get("SELECT diff_id FROM layer_diffs WHERE blob = ?", blob);
    return row === undefined ? undefined : (text(row, "diff_id") as Digest);
  }

  knownDiffs(): Digest[] {
    return this.#metadata.all("SELECT blob FROM layer_diffs").map((row) => text(row, "blob") as Digest);
  }
}

export function imageMissing(namespace: string, name: string): StatusError {
  return new StatusError("NOT_FOUND", `image "${name}" is not in namespace "${namespace}"; pull it first`, {
    reason: "IMAGE_MISSING",
  });
}

export function upsertImage(
  namespace: string,
  name: string,
  target: Descriptor,
  manifest: Digest,
  nowMs: number,
): Statement {
  const { mediaType, digest, size } = target;
  return {
    sql: `INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, '{}', ?, ?)
      ON CONFLICT (namespace, name) DO UPDATE SET target_media_type = excluded.target_media_type,
        target_digest = excluded.target_digest, target_size = excluded.target_size, manifest = excluded.manifest,
        updated_at_ms = CASE WHEN target_digest = excluded.target_digest AND manifest = excluded.manifest
          THEN updated_at_ms ELSE excluded.updated_at_ms END`,
    params: [namespace, name, mediaType, digest, size, manifest, nowMs, nowMs],
  };
}

/** Another name for the same; fails when the image has lost its own meanwhile. */
export function tagImage({ namespace, name, target }: ImageRecord, tag: string, nowMs: number): Statement {
  const { code, reason, message } = imageMissing(namespace, name);
  return {
    sql: `INSERT INTO images SELECT namespace, ?, target_media_type, target_digest, target_size, manifest, labels, ?, ?
      FROM images WHERE namespace = ? AND name = ? AND target_digest = ?
      ON CONFLICT (namespace, name) DO UPDATE SET target_media_type = excluded.target_media_type,
        target_digest = excluded.target_digest, target_size = excluded.target_size, manifest = excluded.manifest,
        labels = excluded.labels, updated_at_ms = excluded.updated_at_ms`,
    params: [tag, nowMs, nowMs, namespace, name, target.digest],
    expect: { changes: 1, otherwise: { code, reason, message } },
  };
}

/** Replaces the labels. */
export function labelImage(namespace: string, name: string, labels: ImageRecord["labels"]): Statement {
  return {
    sql: "UPDATE images SET labels = ? WHERE namespace = ? AND name = ?",
    params: [JSON.stringify(labels), namespace, name],
  };
}

export function deleteImage(namespace: string, name: string): Statement {
  const { code, reason, message } = imageMissing(namespace, name);
  return {
    sql: "DELETE FROM images WHERE namespace = ? AND name = ?",
    params: [namespace, name],
    expect: { changes: 1, otherwise: { code, reason, message } },
  };
}

export function insertNamespace(namespace: string): Statement {
  return { sql: "INSERT INTO image_namespaces VALUES (?) ON CONFLICT DO NOTHING", params: [namespace] };
}

export function deleteNamespace(namespace: string): Statement {
  return { sql: "DELETE FROM image_namespaces WHERE namespace = ?", params: [namespace] };
}

export function insertDiff(blob: Digest, diffId: Digest): Statement {
  return { sql: "INSERT INTO layer_diffs VALUES (?, ?) ON CONFLICT DO NOTHING", params: [blob, diffId] };
}

export function deleteDiff(blob: Digest): Statement {
  return { sql: "DELETE FROM layer_diffs WHERE blob = ?", params: [blob] };
}

function toImage(row: SqlRow): ImageRow {
  return {
    record: {
      namespace: text(row, "namespace"),
      name: text(row, "name"),
      target: {
        mediaType: text(row, "target_media_type"),
        digest: text(row, "target_digest") as Digest,
        size: Number(row["target_size"]),
      },
      labels: JSON.parse(text(row, "labels")) as Record<string, string>,
      createdAtMs: Number(row["created_at_ms"]),
      updatedAtMs: Number(row["updated_at_ms"]),
    },
    manifest: text(row, "manifest") as Digest,
  };
}

function text(row: SqlRow, column: string): string {
  return row[column] as string;
}
