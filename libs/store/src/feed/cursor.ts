/** How far those who pass a feed on have come: kept, so that whoever takes over goes on from there. */
import { sql } from "drizzle-orm";
import type { Tx } from "../database.ts";
import { currentPosition, type FeedName, type Position } from "./position.ts";

export interface KeptPosition {
  readonly position: Position;
  /** What followed the kept place is gone by retention, and was never passed on. */
  readonly missed: boolean;
}

/** Of a reader; a new one begins now. */
export async function keptPosition(tx: Tx, reader: string, feed: FeedName): Promise<KeptPosition> {
  const begin = await currentPosition(tx);
  await tx.execute(sql`
    insert into feed_readers (reader, xid, id) values (${reader}, ${String(begin.xid)}::xid8, ${begin.id})
    on conflict (reader) do nothing`);
  const [row] = await tx.execute<{ xid: string; id: string; gone_xid: string | null; gone_id: string | null }>(sql`
    select r.xid::text as xid, r.id::text as id, m.xid::text as gone_xid, m.id::text as gone_id
    from feed_readers r left join feed_marks m on m.feed = ${feed} and (m.xid, m.id) > (r.xid, r.id)
    where r.reader = ${reader}`);
  const missed = row!.gone_xid !== null;
  const [xid, id] = missed ? [row!.gone_xid!, row!.gone_id!] : [row!.xid, row!.id];
  return { position: { xid: BigInt(xid), id: Number(id) }, missed };
}

/** Moves on, never back. */
export async function keepPosition(tx: Tx, reader: string, { xid, id }: Position): Promise<void> {
  await tx.execute(sql`
    update feed_readers set xid = ${String(xid)}::xid8, id = ${id}, updated_at = now()
    where reader = ${reader} and (xid, id) < (${String(xid)}::xid8, ${id}::bigint)`);
}
