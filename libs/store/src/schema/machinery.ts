/** What moves the state and tells of it: outbox, journals' watermarks, events, the change feed, tokens, the store itself. */
import { sql } from "drizzle-orm";
import {
  bigserial,
  boolean,
  index,
  integer,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import { bytes, counter, labels, message, time, xid8 } from "./columns.ts";

/** Jobs that are to be put into the nodes' queues. A row goes when Redis has its job. */
export const outbox = pgTable("outbox", {
  id: bigserial("id", { mode: "number" }).primaryKey(),
  node: text("node").notNull(),
  jobName: text("job_name").notNull(),
  /** Deterministic, so that putting it twice is putting it once (D2). */
  jobId: text("job_id").notNull(),
  /** A berth.v1.Job. */
  job: message("job").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** How far each epoch of each node's journal is stored (D4). */
export const journalState = pgTable(
  "journal_state",
  {
    node: text("node").notNull(),
    epoch: text("epoch").notNull(),
    /** The order in which the epochs of a node appeared. */
    ordinal: bigserial("ordinal", { mode: "number" }).notNull(),
    storedSeq: counter("stored_seq").notNull().default(0),
    updatedAt: time("updated_at").notNull().defaultNow(),
    /** What the last stored entry tells of: when it was written, by its node's clock. */
    storedTime: time("stored_time"),
    /** The hash of the last stored entry, as the node gave it; null: not chained, or lost with entries. */
    headHash: bytes("head_hash"),
    /** Hashes are known from this entry on. */
    chainedFromSeq: counter("chained_from_seq"),
    /** Entries that did not follow from the one before, or are lost. */
    breaks: counter("breaks").notNull().default(0),
    lastBreakSeq: counter("last_break_seq"),
    lastBreakAt: time("last_break_at"),
    /** So many of the breaks somebody has looked at; when, who, and what they said of them. */
    acknowledgedBreaks: counter("acknowledged_breaks").notNull().default(0),
    acknowledgedAt: time("acknowledged_at"),
    acknowledgedBy: text("acknowledged_by").notNull().default(""),
    acknowledgedReason: text("acknowledged_reason").notNull().default(""),
  },
  (t) => [primaryKey({ columns: [t.node, t.epoch] })],
);

/** Who may write what the journals say. Every write of an owner checks the epoch, so that a late owner writes nothing. */
export const ingestShards = pgTable("ingest_shards", {
  shard: smallint("shard").primaryKey(),
  epoch: counter("epoch").notNull(),
  owner: text("owner").notNull(),
});

/** What happened. A feed of its own: (xid, id) as in `changes`. Partitioned by range of `stored_at` (`partitions.ts`). */
export const events = pgTable(
  "events",
  {
    id: bigserial("id", { mode: "number" }).notNull(),
    xid: xid8("xid")
      .notNull()
      .default(sql`pg_current_xact_id()`),
    namespace: text("namespace").notNull().default(""),
    time: time("time").notNull(),
    topic: text("topic").notNull(),
    kind: text("kind").notNull(),
    name: text("name").notNull(),
    uid: text("uid").notNull().default(""),
    node: text("node").notNull().default(""),
    severity: text("severity").notNull().default("Normal"),
    reason: text("reason").notNull().default(""),
    message: text("message").notNull().default(""),
    attributes: labels("attributes").notNull().default({}),
    /** Null for the controller's own. */
    journalEpoch: text("journal_epoch"),
    journalSeq: counter("journal_seq"),
    storedAt: time("stored_at").notNull().defaultNow(),
    /** A chained entry's own bytes and hash, from which this row was made: `berth journal verify` holds them against it. */
    entry: bytes("entry"),
    entryHash: bytes("entry_hash"),
  },
  (t) => [
    primaryKey({ columns: [t.id, t.storedAt] }),
    // Not unique: no index can be over partitions. That an entry is stored once is kept by its journal's watermark (D4).
    index("events_journal")
      .on(t.node, t.journalEpoch, t.journalSeq)
      .where(sql`journal_seq is not null`),
    index("events_feed").on(t.xid, t.id),
    index("events_namespace").on(t.namespace, t.id),
    index("events_stored").using("brin", t.storedAt),
  ],
);

/**
 * Each change of a watchable resource, written in the transaction that made it: a feed for watches, and the history of what
 * was. Partitioned by range of `created_at` (`partitions.ts`).
 */
export const changes = pgTable(
  "changes",
  {
    id: bigserial("id", { mode: "number" }).notNull(),
    xid: xid8("xid")
      .notNull()
      .default(sql`pg_current_xact_id()`),
    /** Namespace, Node, Workload, Task or Campaign. */
    kind: text("kind").notNull(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    uid: text("uid").notNull(),
    /** ADDED, MODIFIED or DELETED. */
    op: text("op").notNull(),
    object: message("object").notNull(),
    /** The time of the statement, not of the transaction: of two changes of an object, which lock it, the later is later. */
    createdAt: time("created_at")
      .notNull()
      .default(sql`clock_timestamp()`),
  },
  (t) => [
    primaryKey({ columns: [t.id, t.createdAt] }),
    index("changes_feed").on(t.xid, t.id),
    index("changes_object").on(t.kind, t.namespace, t.name, t.id.desc().nullsFirst()),
  ],
);

/** What objects were when the oldest change that is kept had not happened yet: carried out of partitions before they go. */
export const historyBase = pgTable(
  "history_base",
  {
    kind: text("kind").notNull(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    /** Of the change that it was carried from; 0: it was there when history began. */
    id: counter("id").notNull(),
    object: message("object").notNull(),
    changedAt: time("changed_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.kind, t.namespace, t.name] })],
);

/** Up to where a feed has been pruned: a cursor below it is refused. */
export const feedMarks = pgTable("feed_marks", {
  feed: text("feed").primaryKey(),
  xid: xid8("xid").notNull(),
  id: counter("id").notNull(),
  /** What was stored before is gone: no question about an earlier time is answered. */
  until: time("until"),
});

/** How far those who pass a feed on have come. */
export const feedReaders = pgTable("feed_readers", {
  reader: text("reader").primaryKey(),
  xid: xid8("xid").notNull(),
  id: counter("id").notNull(),
  updatedAt: time("updated_at").notNull().defaultNow(),
});

export const tokens = pgTable(
  "tokens",
  {
    id: uuid("id").primaryKey(),
    /** sha256 of the token, hex. */
    hash: text("hash").notNull(),
    name: text("name").notNull(),
    createdAt: time("created_at").notNull().defaultNow(),
    revokedAt: time("revoked_at"),
  },
  (t) => [uniqueIndex("tokens_hash").on(t.hash)],
);

/** One row: which history this database is. */
export const storeMeta = pgTable("store_meta", {
  id: integer("id").primaryKey().default(1),
  storeEpoch: uuid("store_epoch").notNull(),
  /** False after a restore, until an operator confirms: nothing is stopped because of its absence (D5). */
  stopsConfirmed: boolean("stops_confirmed").notNull().default(true),
  /** From a restore until it is known what runs elsewhere: nothing of which there must never be two is begun (`restore.ts`). */
  held: boolean("held").notNull().default(false),
  /** When it was last found to have been put back; null: never. */
  restoredAt: time("restored_at"),
  /** Which database of which server this is: another one than noted is a copy. Empty: not noted yet, or not to be known. */
  identity: text("identity").notNull().default(""),
  systemId: text("system_id").notNull().default(""),
  /** Raised by each change of a registry mirror: nodes ask for them when it is not theirs. */
  mirrorsRevision: counter("mirrors_revision").notNull().default(0),
  /** From when on what was can be told (`history.ts`); null: the base has not been laid yet. */
  historySince: time("history_since"),
});
