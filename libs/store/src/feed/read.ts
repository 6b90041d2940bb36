/** Reading feeds: what became visible after a position, in order. What goes is `partitions.ts`. */
import type { JsonObject } from "@bufbuild/protobuf";
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "../database.ts";
import type { EventRow } from "../events.ts";
import type { FeedName, Position } from "./position.ts";
import type { ChangeOp, ResourceKind } from "./record.ts";

export interface Change {
  readonly position: Position;
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly op: ChangeOp;
  readonly object: JsonObject;
  /** A newer state of the object comes before it in the feed: it says nothing any more ({@link SUPERSEDED}). */
  readonly superseded: boolean;
}

export interface FeedEvent {
  readonly position: Position;
  readonly event: EventRow;
}

export interface FeedPage<T> {
  readonly items: readonly T[];
  /** Something has been committed that an older open transaction still hides: read again soon. */
  readonly pending: boolean;
}

/**
 * Of one object's changes the one with the higher id is the newer: both are written under the object's lock. A transaction that had
 * written something else before may write the object after one that began later, so that its change, the newer, comes first by xid.
 * Whoever shows states leaves out the older one that follows. (Times only keep the search to a partition or two.)
 */
const SUPERSEDED = sql`exists (select from changes n
  where n.kind = changes.kind and n.namespace = changes.namespace and n.name = changes.name and n.uid = changes.uid
    and n.id > changes.id and n.xid < changes.xid and n.created_at >= changes.created_at - interval '10 minutes') as superseded`;

export async function readChanges(tx: Tx, after: Position, limit: number): Promise<FeedPage<Change>> {
  const rows = await readRows<{
    kind: ResourceKind;
    namespace: string;
    name: string;
    uid: string;
    op: ChangeOp;
    object: JsonObject;
    superseded: boolean;
  }>(tx, "changes", sql`kind, namespace, name, uid, op, object, ${SUPERSEDED}`, after, limit);
  return {
    items: rows.items.map(({ xid, id, pending: _pending, ...change }) => ({
      position: positionOf(xid, id),
      ...change,
    })),
    pending: rows.pending,
  };
}

export async function readEvents(tx: Tx, after: Position, limit: number): Promise<FeedPage<FeedEvent>> {
  const columns = sql`namespace, time, topic, kind, name, uid, node, severity, reason, message, attributes,
    journal_epoch as "journalEpoch", journal_seq::text as "journalSeq", stored_at as "storedAt"`;
  type Row = Omit<EventRow, "id" | "xid" | "time" | "storedAt" | "journalSeq"> & {
    time: string;
    storedAt: string;
    journalSeq: string | null;
  };
  const rows = await readRows<Row>(tx, "events", columns, after, limit);
  return {
    items: rows.items.map(({ pending: _pending, xid, id, ...row }) => ({
      position: positionOf(xid, id),
      event: {
        ...row,
        id: Number(id),
        xid,
        time: new Date(row.time),
        storedAt: new Date(row.storedAt),
        journalSeq: row.journalSeq === null ? null : Number(row.journalSeq),
      },
    })),
    pending: rows.pending,
  };
}

type Placed<T> = T & { readonly xid: string; readonly id: string; readonly pending: boolean };

async function readRows<T extends object>(
  tx: Tx,
  feed: FeedName,
  columns: SQL,
  after: Position,
  limit: number,
): Promise<{ readonly items: readonly Placed<T>[]; readonly pending: boolean }> {
  const table = sql.identifier(feed);
  const rows = await tx.execute<Placed<Record<string, unknown>>>(sql`
    with horizon as (select pg_snapshot_xmin(pg_current_snapshot()) as xmin)
    select xid::text as xid, id::text as id, false as pending, ${columns}
    from ${table} where (xid, id) > (${String(after.xid)}::xid8, ${after.id}::bigint) and xid < (select xmin from horizon)
    order by ${table}.xid, ${table}.id limit ${limit}`);
  const items = [...rows] as unknown as readonly Placed<T>[];
  if (items.length > 0) return { items, pending: items.length === limit };
  // The last row by the index: a search for any such row would be planned as if there were many, and read everything.
  const [held] = await tx.execute<{ pending: boolean }>(sql`
    select xid >= pg_snapshot_xmin(pg_current_snapshot()) as pending
    from ${table} order by ${table}.xid desc, ${table}.id desc limit 1`);
  return { items, pending: held?.pending ?? false };
}

const positionOf = (xid: string, id: string): Position => ({ xid: BigInt(xid), id: Number(id) });
