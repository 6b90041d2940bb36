/** The tables of the image service. */
import type { Migration } from "@berth/metadata";

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
];
