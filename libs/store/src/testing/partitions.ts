/** For tests: the partition that is written to now ends now, and the next begins. What it holds can then be retired. */
import { sql } from "drizzle-orm";
import type { Tx } from "../database.ts";
import type { FeedName } from "../feed/position.ts";
import { partitionName, partitionsOf } from "../partitions.ts";

/** In a transaction of its own. @returns the bound between the two */
export async function closePartition(tx: Tx, feed: FeedName): Promise<Date> {
  const table = sql.identifier(feed);
  await tx.execute(sql`lock table ${table} in access exclusive mode`);
  const [clock] = await tx.execute<{ now: string }>(sql`select (clock_timestamp() + interval '2 ms')::text as now`);
  const bound = new Date(clock!.now);
  const all = await partitionsOf(tx, feed);
  const at = all.findIndex(({ to }) => to > bound);
  const current = all[at]!;
  const [closed, next] = [sql.identifier(current.name), sql.identifier(partitionName(feed, bound.getTime()))];
  const text = (time: Date | null): string => (time === null ? "minvalue" : `'${time.toISOString()}'`);
  const between = (from: Date | null, to: Date) => sql.raw(`from (${text(from)}) to (${text(to)})`);
  await tx.execute(sql`alter table ${table} detach partition ${closed}`);
  await tx.execute(sql`alter table ${table} attach partition ${closed} for values ${between(current.from, bound)}`);
  await tx.execute(sql`create table ${next} (like ${table} including all)`);
  await tx.execute(sql`alter table ${table} attach partition ${next} for values ${between(bound, current.to)}`);
  return bound;
}
