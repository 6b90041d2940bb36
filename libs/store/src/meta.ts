/** Which history this database is (D5). What follows when it was put back from a copy: `restore.ts`. */
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";

/** Which database this is. Tables get new numbers when they are made anew, as a restored dump makes them. */
export const IDENTITY: SQL = sql`(select oid::text from pg_database where datname = current_database()) || '/' ||
  'store_meta'::regclass::oid::text`;

/**
 * Names the history that this database tells: another epoch, another database, and a server that was started anew (it may have been
 * put back to an earlier moment, or be a standby that had not heard all) may tell another one under the same versions. Whoever keeps
 * rows between transactions by their versions drops them when it changes.
 */
export const HISTORY: SQL<string> = sql`(select store_epoch::text || ' ' || ${IDENTITY} || ' ' || pg_postmaster_start_time()::text
  from store_meta)`;

export interface StoreMeta {
  readonly storeEpoch: string;
  readonly stopsConfirmed: boolean;
  /** It was put back, and it is not yet known what runs elsewhere. */
  readonly held: boolean;
  /** It was put back, and nobody has noticed yet (`restore.ts`). */
  readonly copy: boolean;
  /** Null: it never was put back. */
  readonly restoredAt: Date | null;
  /** Of the registry mirrors. */
  readonly mirrorsRevision: number;
}

export async function getStoreMeta(tx: Tx): Promise<StoreMeta> {
  const [row] = await tx.execute<{
    epoch: string;
    confirmed: boolean;
    held: boolean;
    copy: boolean;
    restored: string | null;
    mirrors: string;
  }>(sql`
    select store_epoch::text as epoch, stops_confirmed as confirmed, held,
      identity not in ('', ${IDENTITY}) as copy,
      (extract(epoch from restored_at) * 1000)::bigint::text as restored, mirrors_revision::text as mirrors
    from store_meta`);
  return {
    storeEpoch: row!.epoch,
    stopsConfirmed: row!.confirmed,
    held: row!.held,
    copy: row!.copy,
    restoredAt: row!.restored === null ? null : new Date(Number(row!.restored)),
    mirrorsRevision: Number(row!.mirrors),
  };
}
