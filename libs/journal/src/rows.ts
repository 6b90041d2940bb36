/** The journal's SQL: reading, and the statements of an append, a prune and a new epoch. */
import { StatusError } from "@berth/base";
import type { Metadata, SqlRow, Statement } from "@berth/metadata";
import type { Entry, EpochState, NewEntry } from "./journal.ts";

export interface StateRow extends EpochState {
  readonly ordinal: number;
  readonly node: string;
  readonly identity: string;
}

/** How much of the journal a range of entries is. */
export interface Extent {
  readonly entries: number;
  readonly bytes: number;
}

/** What an entry weighs besides its payload, in the table and on the wire. */
export const ENTRY_OVERHEAD_BYTES = 64;

/** Whose epochs are meant: all of the file, or those of one node among several that share it. */
export interface Scope {
  /** Of rows of `journal_state`. */
  readonly own: string;
  readonly params: readonly string[];
}

export const WHOLE_FILE: Scope = { own: "TRUE", params: [] };

export function ofNode(node: string): Scope {
  return { own: "node = ?", params: [node] };
}

const EXTENT = `count(*) AS entries, coalesce(sum(length(payload)), 0) + ${ENTRY_OVERHEAD_BYTES} * count(*) AS bytes`;

export class JournalRows {
  readonly #metadata: Metadata;
  readonly #scope: Scope;

  constructor(metadata: Metadata, scope: Scope) {
    this.#metadata = metadata;
    this.#scope = scope;
  }

  states(): StateRow[] {
    const { own, params } = this.#scope;
    return this.#metadata.all(`SELECT * FROM journal_state WHERE ${own} ORDER BY ordinal`, ...params).map(toState);
  }

  current(): StateRow | undefined {
    const row = this.#metadata.get(`SELECT * FROM journal_state WHERE ${current(this.#scope)}`, ...this.#scope.params);
    return row === undefined ? undefined : toState(row);
  }

  entries(epoch: string, fromSeq: number, limit: number): Entry[] {
    const sql =
      "SELECT epoch, seq, time_ms, kind, payload, hash FROM journal WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT ?";
    return this.#metadata.all(sql, epoch, fromSeq, limit).map(toEntry);
  }

  extent(): Extent {
    const { own, params } = this.#scope;
    const epochs = `SELECT epoch FROM journal_state WHERE ${own}`;
    return toExtent(this.#metadata.get(`SELECT ${EXTENT} FROM journal WHERE epoch IN (${epochs})`, ...params));
  }
}

/** What the first entry of an epoch's chain follows: `chainBegin` of @berth/base. */
const CHAIN_BEGIN = "sha256('berth-journal ' || s.node || ' ' || s.epoch || ' ')";

/** What an entry follows: the epoch's head, or, amid several, the row that was just inserted. */
const HEAD_HASH = `coalesce(s.head_hash, ${CHAIN_BEGIN})`;
const LAST_HASH = "(SELECT hash FROM journal b WHERE b.epoch = s.epoch AND b.seq = s.head_seq + v.nth - 1)";

/** Appends to the current epoch. Each entry's statement returns its epoch and seq; the last statement moves the head. */
export function appendEntries(entries: readonly NewEntry[], timeMs: number, scope: Scope): Statement[] {
  const inserts = entries.map(({ kind, payload }, index) => ({
    sql: insertAfter(index === 0 ? HEAD_HASH : LAST_HASH, scope),
    params: [index + 1, timeMs, kind, payload, ...scope.params],
    expect: { rows: 1, otherwise: NO_EPOCH },
  }));
  const moveHead = `UPDATE journal_state SET head_seq = head_seq + ?1,
    head_hash = (SELECT hash FROM journal e WHERE e.epoch = journal_state.epoch AND e.seq = journal_state.head_seq + ?1)
    WHERE ${current(scope)}`;
  return [...inserts, { sql: moveHead, params: [entries.length, ...scope.params] }];
}

function insertAfter(before: string, scope: Scope): string {
  return `INSERT INTO journal (epoch, seq, time_ms, kind, payload, hash)
    SELECT s.epoch, s.head_seq + v.nth, v.time_ms, v.kind, v.payload,
      sha256(${before}, (s.head_seq + v.nth) || ' ' || v.time_ms || ' ', v.payload)
    FROM (SELECT CAST(? AS INTEGER) AS nth, CAST(? AS INTEGER) AS time_ms, ? AS kind, ? AS payload) v
    JOIN journal_state s ON ${current(scope)} RETURNING epoch, seq`;
}

export function beginEpoch(epoch: string, node: string, identity: string, nowMs: number): Statement {
  return {
    sql: `INSERT INTO journal_state (epoch, ordinal, node, identity, began_at_ms, head_seq, stored_seq)
      SELECT ?, coalesce(max(ordinal), 0) + 1, ?, ?, ?, 0, 0 FROM journal_state`,
    params: [epoch, node, identity, nowMs],
  };
}

/** Removes what another node's name wrote: it is that node's to publish, or nobody's. */
export function dropOtherNodes(node: string): Statement[] {
  return [
    { sql: "DELETE FROM journal WHERE epoch IN (SELECT epoch FROM journal_state WHERE node <> ?)", params: [node] },
    { sql: "DELETE FROM journal_state WHERE node <> ?", params: [node] },
  ];
}

/** The first statement returns what the second removes, for {@link toExtent}. */
export function pruneEntries(epoch: string, throughSeq: number, scope: Scope): Statement[] {
  return [
    { sql: `SELECT ${EXTENT} FROM journal WHERE epoch = ? AND seq <= ?`, params: [epoch, throughSeq] },
    { sql: "DELETE FROM journal WHERE epoch = ? AND seq <= ?", params: [epoch, throughSeq] },
    { sql: "UPDATE journal_state SET stored_seq = max(stored_seq, ?) WHERE epoch = ?", params: [throughSeq, epoch] },
    // An epoch that nothing can be added to and that is stored whole has nothing more to say.
    {
      sql: `DELETE FROM journal_state WHERE ${scope.own} AND stored_seq = head_seq AND NOT (${current(scope)})`,
      params: [...scope.params, ...scope.params],
    },
  ];
}

/** Ends the epoch at its watermark and lets what follows go on, numbered anew, in `next`, which has just begun. */
export function moveUnstored(epoch: string, next: string): Statement[] {
  const stored = "(SELECT stored_seq FROM journal_state WHERE epoch = ?)";
  return [
    {
      sql: `UPDATE journal_state SET head_seq = (SELECT head_seq - stored_seq FROM journal_state WHERE epoch = ?) WHERE epoch = ?`,
      params: [epoch, next],
    },
    {
      sql: `UPDATE journal SET epoch = ?, seq = seq - ${stored} WHERE epoch = ? AND seq > ${stored}`,
      params: [next, epoch, epoch, epoch],
    },
    { sql: "DELETE FROM journal_state WHERE epoch = ?", params: [epoch] },
    { sql: CHAIN_ANEW, params: [next] },
    {
      sql: "UPDATE journal_state SET head_hash = (SELECT hash FROM journal WHERE epoch = ?1 AND seq = head_seq) WHERE epoch = ?1",
      params: [next],
    },
  ];
}

/** Hashes of a whole epoch, for entries that have come to it from another. */
const CHAIN_ANEW = `WITH RECURSIVE chain (seq, hash) AS (
    SELECT 0, ${CHAIN_BEGIN} FROM journal_state s WHERE s.epoch = ?1
    UNION ALL
    SELECT e.seq, sha256(chain.hash, e.seq || ' ' || e.time_ms || ' ', e.payload)
    FROM chain JOIN journal e ON e.epoch = ?1 AND e.seq = chain.seq + 1)
  UPDATE journal SET hash = chain.hash FROM chain WHERE journal.epoch = ?1 AND journal.seq = chain.seq`;

export function toExtent(row: SqlRow | undefined): Extent {
  return { entries: Number(row?.["entries"] ?? 0), bytes: Number(row?.["bytes"] ?? 0) };
}

function current({ own }: Scope): string {
  return `ordinal = (SELECT max(ordinal) FROM journal_state WHERE ${own})`;
}

const NO_EPOCH = { code: "INTERNAL", reason: "JOURNAL_NO_EPOCH", message: "journal: no epoch has begun" };

function toState(row: SqlRow): StateRow {
  return {
    epoch: String(row["epoch"]),
    ordinal: Number(row["ordinal"]),
    node: String(row["node"]),
    identity: String(row["identity"]),
    headSeq: Number(row["head_seq"]),
    storedSeq: Number(row["stored_seq"]),
  };
}

function toEntry(row: SqlRow): Entry {
  const { payload, hash } = row;
  if (!(payload instanceof Uint8Array)) throw new StatusError("DATA_LOSS", "journal: an entry's payload is no bytes");
  return {
    epoch: String(row["epoch"]),
    seq: Number(row["seq"]),
    timeMs: Number(row["time_ms"]),
    kind: String(row["kind"]),
    payload,
    ...(hash instanceof Uint8Array ? { hash } : {}),
  };
}
