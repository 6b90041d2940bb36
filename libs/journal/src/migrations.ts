/** The journal's rows: the entries, and each epoch's head and watermark. */
import type { Migration } from "@berth/metadata";

export const journalMigrations: readonly Migration[] = [
  {
    name: "journal-0001-journal",
    sql: `
      CREATE TABLE journal (
        epoch TEXT NOT NULL,
        seq INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (epoch, seq)
      ) STRICT;

      CREATE TABLE journal_state (
        epoch TEXT PRIMARY KEY,
        -- the order of the epochs; the last one is the current one
        ordinal INTEGER NOT NULL UNIQUE,
        node TEXT NOT NULL,
        identity TEXT NOT NULL,
        began_at_ms INTEGER NOT NULL,
        head_seq INTEGER NOT NULL,
        stored_seq INTEGER NOT NULL CHECK (stored_seq <= head_seq)
      ) STRICT, WITHOUT ROWID;
    `,
  },
  {
    name: "journal-0002-by-node",
    sql: `
      -- In a file that several nodes share, each looks for its own newest epoch at every append.
      CREATE INDEX journal_state_by_node ON journal_state (node, ordinal);
    `,
  },
  {
    name: "journal-0003-chain",
    sql: `
      -- null: appended before there were chains
      ALTER TABLE journal ADD COLUMN hash BLOB;
      -- of the entry at head_seq; null: nothing is chained yet
      ALTER TABLE journal_state ADD COLUMN head_hash BLOB;
    `,
  },
];
