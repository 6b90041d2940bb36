/** Which history this database is (D5). */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";

export interface StoreMeta {
  readonly storeEpoch: string;
  readonly stopsConfirmed: boolean;
  /** Of the registry mirrors. */
  readonly mirrorsRevision: number;
}

export async function getStoreMeta(tx: Tx): Promise<StoreMeta> {
  const [row] = await tx.execute<{ epoch: string; confirmed: boolean; mirrors: string }>(
    sql`select store_epoch::text as epoch, stops_confirmed as confirmed, mirrors_revision::text as mirrors from store_meta`,
  );
  return { storeEpoch: row!.epoch, stopsConfirmed: row!.confirmed, mirrorsRevision: Number(row!.mirrors) };
}

/**
 * This database was put back: what the fleet has seen since is unknown to it. Begins a new epoch, in which nothing is stopped
 * for being absent until an operator confirms. Returns false when somebody else has done so already.
 */
export async function beginStoreEpoch(tx: Tx, previous: string): Promise<boolean> {
  const done = await tx.execute(sql`
    update store_meta set store_epoch = gen_random_uuid(), stops_confirmed = false where store_epoch = ${previous}::uuid`);
  return done.count === 1;
}

/** Returns false when the epoch is not the current one. */
export async function confirmStore(tx: Tx, storeEpoch: string): Promise<boolean> {
  const done = await tx.execute(
    sql`update store_meta set stops_confirmed = true where store_epoch::text = ${storeEpoch}`,
  );
  return done.count === 1;
}
