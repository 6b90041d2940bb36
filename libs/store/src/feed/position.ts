/**
 * Where a reader of a feed stands: a (transaction, row) pair. Feeds are read in this order, and only below the oldest open
 * transaction, so nothing that commits late can end up behind a reader (ADR 7).
 *
 * As text, a cursor also says which history it belongs to: `<first 8 of the store's epoch>-<xid>-<id>`.
 */
import { StatusError } from "@berth/base";
import { sql } from "drizzle-orm";
import type { Tx } from "../database.ts";

export type FeedName = "changes" | "events";

export interface Position {
  readonly xid: bigint;
  readonly id: number;
}

export function comparePositions(a: Position, b: Position): number {
  if (a.xid !== b.xid) return a.xid < b.xid ? -1 : 1;
  return a.id - b.id;
}

/** A reader that begins here sees all that is not in the snapshot of `tx`, and perhaps again something that is. */
export async function currentPosition(tx: Tx): Promise<Position> {
  const [row] = await tx.execute<{ xmin: string }>(sql`select pg_snapshot_xmin(pg_current_snapshot())::text as xmin`);
  return { xid: BigInt(row!.xmin), id: 0 };
}

export function formatCursor(storeEpoch: string, position: Position): string {
  return `${storeEpoch.slice(0, 8)}-${position.xid}-${position.id}`;
}

/**
 * Reads a cursor that a client brings.
 * @throws INVALID_ARGUMENT `CURSOR_INVALID`; OUT_OF_RANGE `CURSOR_EXPIRED` when what follows it has been pruned, or it
 * belongs to another history of this database: list again.
 */
export async function parseCursor(tx: Tx, feed: FeedName, text: string): Promise<Position> {
  const match = /^([0-9a-f]{8})-([0-9]{1,20})-([0-9]{1,15})$/.exec(text);
  if (match === null) {
    throw new StatusError("INVALID_ARGUMENT", `cursor ${JSON.stringify(text)} is not one that a list or watch gave`, {
      reason: "CURSOR_INVALID",
      violations: [
        { field: "cursor", description: "is not one that a list or watch gave; leave it out to begin anew" },
      ],
    });
  }
  const [, epoch, xid, id] = match;
  const position: Position = { xid: BigInt(xid!), id: Number(id) };
  const [row] = await tx.execute<{ ok: boolean }>(sql`
    select m.store_epoch::text like ${`${epoch}%`}
      and ${xid}::text::numeric <= pg_snapshot_xmax(pg_current_snapshot())::text::numeric as ok
    from store_meta m`);
  if (row?.ok !== true) throw expired(`cursor ${text} belongs to another history of this store`);
  await checkNotPruned(tx, feed, position);
  return position;
}

/** @throws OUT_OF_RANGE `CURSOR_EXPIRED` when something after the position has been pruned. */
export async function checkNotPruned(tx: Tx, feed: FeedName, position: Position): Promise<void> {
  const rows = await tx.execute(sql`
    select from feed_marks where feed = ${feed}
      and (xid::text::numeric, id) > (${String(position.xid)}::text::numeric, ${position.id}::bigint)`);
  if (rows.length > 0) throw expired(`cursor ${position.xid}-${position.id} is too old: what followed it is not kept`);
}

function expired(why: string): StatusError {
  return new StatusError("OUT_OF_RANGE", `${why}; list again`, { reason: "CURSOR_EXPIRED" });
}
