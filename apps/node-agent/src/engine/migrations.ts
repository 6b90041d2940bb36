/** The engine's tables. */
import type { Migration } from "@berth/metadata";

export const engineMigrations: readonly Migration[] = [
  {
    name: "engine-0001-containers",
    sql: `
      -- Container objects of every door; \`owner\` says whose.
      CREATE TABLE containers (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        owner TEXT NOT NULL,
        image TEXT NOT NULL,
        snapshotter TEXT NOT NULL,
        handler TEXT NOT NULL,
        snapshot_key TEXT NOT NULL,
        spec TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
      ) STRICT;

      -- The process of a container, while there is one.
      CREATE TABLE tasks (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        status TEXT NOT NULL,
        started_at_ms INTEGER NOT NULL,
        addresses TEXT NOT NULL,
        PRIMARY KEY (namespace, id),
        FOREIGN KEY (namespace, id) REFERENCES containers (namespace, id) ON DELETE CASCADE
      ) STRICT;

      CREATE TABLE executions (
        task_uid TEXT NOT NULL,
        generation INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        desired TEXT NOT NULL,
        state TEXT NOT NULL,
        cleaned INTEGER NOT NULL,
        store_epoch TEXT NOT NULL,
        revision INTEGER NOT NULL,
        plan TEXT,
        boot_id TEXT NOT NULL,
        image_digest TEXT NOT NULL DEFAULT '',
        stop_signal TEXT NOT NULL DEFAULT '',
        changed_at_ms INTEGER NOT NULL,
        PRIMARY KEY (task_uid, generation, attempt)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX executions_open ON executions (state) WHERE state <> 'removed' OR cleaned = 0;

      -- Images that campaigns want here.
      CREATE TABLE image_assignments (
        namespace TEXT NOT NULL,
        image TEXT NOT NULL,
        campaign_uid TEXT NOT NULL,
        generation INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        desired TEXT NOT NULL,
        state TEXT NOT NULL,
        snapshotter TEXT NOT NULL,
        store_epoch TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (campaign_uid, namespace, image)
      ) STRICT;

      -- One row: how far the controller's assignments were taken over (D5).
      CREATE TABLE assignment_state (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        store_epoch TEXT NOT NULL,
        revision INTEGER NOT NULL
      ) STRICT;
    `,
  },
  {
    name: "engine-0002-registry-mirrors",
    sql: `
      -- One row: the controller's registry mirrors, as it last told them.
      CREATE TABLE registry_mirrors (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        store_epoch TEXT NOT NULL,
        revision INTEGER NOT NULL,
        mirrors TEXT NOT NULL
      ) STRICT;
    `,
  },
  {
    name: "engine-0003-shared-file",
    sql: `
      -- \`node\` says whose a row is in a file that several simulated nodes share; it is empty on a real host.
      ALTER TABLE executions ADD COLUMN node TEXT NOT NULL DEFAULT '';
      DROP INDEX executions_open;
      CREATE INDEX executions_open ON executions (node) WHERE state <> 'removed' OR cleaned = 0;
      CREATE INDEX executions_tombstones ON executions (node, changed_at_ms) WHERE state = 'removed' AND cleaned = 1;

      ALTER TABLE image_assignments RENAME TO image_assignments_before;
      CREATE TABLE image_assignments (
        node TEXT NOT NULL,
        namespace TEXT NOT NULL,
        image TEXT NOT NULL,
        campaign_uid TEXT NOT NULL,
        generation INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        desired TEXT NOT NULL,
        state TEXT NOT NULL,
        snapshotter TEXT NOT NULL,
        store_epoch TEXT NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (node, campaign_uid, namespace, image)
      ) STRICT;
      INSERT INTO image_assignments SELECT '', namespace, image, campaign_uid, generation, attempt, desired, state,
        snapshotter, store_epoch, revision FROM image_assignments_before;
      DROP TABLE image_assignments_before;

      ALTER TABLE assignment_state RENAME TO assignment_state_before;
      CREATE TABLE assignment_state (
        node TEXT PRIMARY KEY,
        store_epoch TEXT NOT NULL,
        revision INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      INSERT INTO assignment_state SELECT '', store_epoch, revision FROM assignment_state_before;
      DROP TABLE assignment_state_before;
    `,
  },
  {
    name: "engine-0004-health",
    sql: `
      -- What a running container's probes last said; kept, so that a restarted agent journals changes only.
      ALTER TABLE executions ADD COLUMN health TEXT NOT NULL DEFAULT '';
      ALTER TABLE executions ADD COLUMN health_reason TEXT NOT NULL DEFAULT '';
      ALTER TABLE executions ADD COLUMN health_message TEXT NOT NULL DEFAULT '';
    `,
  },
];
