/** The rows of the content store. `blobs` says what is on disk; `blob_refs` who may see it; `ingests` what is being written. */
import type { Migration } from "@berth/metadata";

export const contentMigrations: readonly Migration[] = [
  {
    name: "content-0001-blobs",
    sql: `
      CREATE TABLE blobs (
        digest TEXT PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        -- 'dead': nobody refers to it and its file is being unlinked; only the next commit of the digest revives it
        state TEXT NOT NULL CHECK (state IN ('live', 'dead'))
      ) STRICT, WITHOUT ROWID;

      CREATE TABLE blob_refs (
        namespace TEXT NOT NULL,
        digest TEXT NOT NULL REFERENCES blobs (digest),
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, digest)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX blob_refs_by_digest ON blob_refs (digest);

      CREATE TABLE ingests (
        namespace TEXT NOT NULL,
        ref TEXT NOT NULL,
        total_bytes INTEGER NOT NULL,
        expected TEXT,
        started_at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, ref)
      ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    name: "content-0002-ingest-leases",
    sql: `
      ALTER TABLE ingests ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
      -- '' when nothing but time keeps it
      ALTER TABLE ingests ADD COLUMN lease TEXT NOT NULL DEFAULT '';
      CREATE INDEX ingests_by_lease ON ingests (namespace, lease) WHERE lease <> '';
    `,
  },
];
