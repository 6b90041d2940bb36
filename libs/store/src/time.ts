/**
 * The time that decisions go by. Controllers' own clocks jump and disagree; what one of them writes, another one compares: so
 * deadlines, and how long something has lasted, are measured by Postgres' clock alone. Times for people may be anybody's.
 */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";

export const STORE_NOW_MS = sql<number>`(extract(epoch from clock_timestamp()) * 1000)::float8`;

/** Postgres' clock, to the millisecond. @throws UNAVAILABLE */
export async function storeTime(tx: Tx): Promise<Date> {
  const [row] = await tx.execute<{ ms: number }>(sql`select ${STORE_NOW_MS} as ms`);
  return new Date(row!.ms);
}
