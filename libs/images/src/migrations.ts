/** The tables of the image service. */
import type { Migration } from "@berth/metadata";
import { verificationMigrations } from "./verify/rows.ts";

export const imageMigrations: readonly Migration[] = [
  {
    name: "images-0001-images",
    sql: `
      CREATE TABLE images (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        target_media_type TEXT NOT NULL,
        target_digest TEXT NOT NULL,
        target_size INTEGER NOT NULL,
        manifest TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
      ) STRICT;

      -- Every namespace that has ever pulled: where collection has to look.
      CREATE TABLE image_namespaces (namespace TEXT PRIMARY KEY) STRICT;

      -- What a layer's blob decompresses to, as computed here. A manifest's word for it opens no other tenant's layer.
      CREATE TABLE layer_diffs (blob TEXT PRIMARY KEY, diff_id TEXT NOT NULL) STRICT;
    `,
  },
  {
    name: "images-0002-collection",
    sql: `
      CREATE TABLE leases (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
      ) STRICT, WITHOUT ROWID;

      CREATE TABLE lease_resources (
        namespace TEXT NOT NULL,
        lease TEXT NOT NULL,
        type TEXT NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (namespace, lease, type, id),
        FOREIGN KEY (namespace, lease) REFERENCES leases (namespace, id) ON DELETE CASCADE
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX lease_resources_by_resource ON lease_resources (namespace, type, id);

      CREATE TABLE image_pins (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        holder TEXT NOT NULL,
        -- null: until it is unpinned
        until_ms INTEGER,
        PRIMARY KEY (namespace, name, holder)
      ) STRICT, WITHOUT ROWID;

      -- When an image was last pulled or started from; written now and then, so a crash may lose a minute of it.
      CREATE TABLE image_uses (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        used_at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
      ) STRICT, WITHOUT ROWID;

      -- What a manifest, index or config refers to, read from its bytes once; 'opaque' is anything else. Says nothing of
      -- who may see it.
      CREATE TABLE blob_edges (
        digest TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('index', 'manifest', 'config', 'opaque')),
        targets TEXT NOT NULL
      ) STRICT, WITHOUT ROWID;
    `,
  },
  ...verificationMigrations,
];
