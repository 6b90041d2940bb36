/**
 * A place in a feed that knows what its holder has seen already.
 *
 * A snapshot's position is its oldest open transaction (ADR 7), so what follows it repeats changes that the snapshot shows,
 * of transactions that began later and committed before. The mark carries the snapshot's own account of who was open: with
 * it a reader leaves those out, also after being resumed. Above the snapshot's end a position alone says it all.
 *
 * As text: `<cursor>` or `<cursor>~<xmax>[.<open transaction>…]`.
 */
import { StatusError } from "@berth/base";
import { sql } from "drizzle-orm";
import type { Tx } from "../database.ts";
import { formatCursor, parseCursor, type FeedName, type Position } from "./position.ts";

export interface Mark {
  /** Read on after this. */
  readonly position: Position;
  /** What the holder's snapshot shows; absent once it is left behind. */
  readonly seen?: { readonly end: bigint; readonly open: ReadonlySet<bigint> };
}

/** Of the transaction's snapshot: give it one ({@link Store.snapshot}) in which the list is read, too. */
export async function currentMark(tx: Tx): Promise<Mark> {
  const [row] = await tx.execute<{ snapshot: string }>(sql`select pg_current_snapshot()::text as snapshot`);
  const [begin, end, open] = row!.snapshot.split(":");
  return {
    position: { xid: BigInt(begin!), id: 0 },
    seen: { end: BigInt(end!), open: new Set(open === "" ? [] : open!.split(",").map(BigInt)) },
  };
}

/** Has the holder of the mark seen what this transaction wrote? Asked of what follows the mark's position. */
export function hasSeen({ seen }: Mark, xid: bigint): boolean {
  return seen !== undefined && xid < seen.end && !seen.open.has(xid);
}

/** The mark of a reader that has come to `position`. */
export function advanceMark(mark: Mark, position: Position): Mark {
  return mark.seen === undefined || position.xid >= mark.seen.end ? { position } : { position, seen: mark.seen };
}

export function formatMark(storeEpoch: string, { position, seen }: Mark): string {
  const cursor = formatCursor(storeEpoch, position);
  // A snapshot that ends where it begins had nothing open that was passed over.
  if (seen === undefined || seen.end <= position.xid) return cursor;
  return `${cursor}~${[seen.end, ...seen.open].join(".")}`;
}

/** @throws as {@link parseCursor} */
export async function parseMark(tx: Tx, feed: FeedName, text: string): Promise<Mark> {
  const [cursor, account] = text.split("~", 2);
  const position = await parseCursor(tx, feed, cursor!);
  if (account === undefined) return { position };
  if (!/^[0-9]{1,20}(\.[0-9]{1,20}){0,10000}$/.test(account)) {
    throw new StatusError("INVALID_ARGUMENT", `cursor ${JSON.stringify(text)} is not one that a list or watch gave`, {
      reason: "CURSOR_INVALID",
      violations: [
        { field: "cursor", description: "is not one that a list or watch gave; leave it out to begin anew" },
      ],
    });
  }
  const [end, ...open] = account.split(".").map(BigInt);
  return { position, seen: { end: end!, open: new Set(open) } };
}
