/**
 * Events and changes lie in partitions by the time they were stored: what is too old goes by dropping a table, at once and
 * without a trace in the others, however much it is.
 *
 * Invariants:
 *  1. There is always a partition for now and for some time to come: they are made when a store is opened, and by one controller
 *     in its retention loop. There is no default partition: it would have to be searched with each new one.
 *  2. Writers never wait for more than a moment: partitions are attached and detached without a lock that excludes them.
 *  3. Before a partition goes, the feed's mark says so (cursors below it are refused), and for changes the horizon, below which
 *     no question about the past is answered; then what objects were at its end is carried into `history_base`. A crash between
 *     any two steps leaves what the next round finishes.
 *  4. Uniqueness over partitions is not Postgres' to keep. That a journal's entry is stored once is kept by its watermark's row,
 *     locked in the transaction that stores (D4).
 */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { PARTITION_LOCK } from "./lock-keys.ts";
import type { FeedName } from "./feed/position.ts";
import type { Store } from "./open.ts";

const LOCK_TIMEOUT = sql`set local lock_timeout = '2s'`;
const CARRY_OBJECTS = 1_000;

export interface Partition {
  readonly name: string;
  /** Null: without a lower bound. */
  readonly from: Date | null;
  readonly to: Date;
  /** Its detaching has begun and was not finished. */
  readonly leaving: boolean;
}

/** In the order of time. */
export async function partitionsOf(tx: Tx, feed: FeedName): Promise<Partition[]> {
  const rows = await tx.execute<{ name: string; lower: string | null; upper: string; leaving: boolean }>(sql`
    select name, lower::timestamptz::text as lower, upper::timestamptz::text as upper, leaving from (
      select c.relname as name, i.inhdetachpending as leaving,
        (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''([^'']+)''\\)'))[1] as lower,
        (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)''\\)'))[1] as upper
      from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = ${feed}::regclass) p
    where upper is not null order by upper::timestamptz`);
  return rows.map(({ name, lower, upper, leaving }) => ({
    name,
    from: lower === null ? null : new Date(lower),
    to: new Date(upper),
    leaving,
  }));
}

/** Makes partitions of `spanMs` until they reach `aheadMs` beyond now. In a transaction; others wait. */
export async function makePartitions(tx: Tx, feed: FeedName, spanMs: number, aheadMs: number): Promise<number> {
  await tx.execute(sql`select pg_advisory_xact_lock(${PARTITION_LOCK[0]}, ${PARTITION_LOCK[1]})`);
  await tx.execute(LOCK_TIMEOUT);
  const [clock] = await tx.execute<{ now: string }>(sql`select clock_timestamp()::text as now`);
  const nowMs = new Date(clock!.now).getTime();
  let fromMs = (await partitionsOf(tx, feed)).at(-1)?.to.getTime() ?? 0;
  let made = 0;
  while (fromMs < nowMs + aheadMs) {
    // After a long absence one partition spans the time in which nobody wrote.
    const toMs = Math.max(fromMs + spanMs, nowMs);
    await attach(tx, feed, fromMs, toMs);
    fromMs = toMs;
    made += 1;
  }
  return made;
}

async function attach(tx: Tx, feed: FeedName, fromMs: number, toMs: number): Promise<void> {
  const name = sql.identifier(partitionName(feed, fromMs));
  const table = sql.identifier(feed);
  // Attaching takes a lock that lets writers go on, as creating it in place would not.
  await tx.execute(sql`create table if not exists ${name} (like ${table} including all)`);
  const bounds = `from ('${new Date(fromMs).toISOString()}') to ('${new Date(toMs).toISOString()}')`;
  await tx.execute(sql`alter table ${table} attach partition ${name} for values ${sql.raw(bounds)}`);
}

/** `events_20261129t040000000z`: {@link dropDetached} knows its own by it. */
export function partitionName(feed: FeedName, fromMs: number): string {
  return `${feed}_${new Date(fromMs).toISOString().replaceAll(/[-:.]/g, "").toLowerCase()}`;
}

export interface Retired {
  readonly partition: string;
  readonly to: Date;
}

/**
 * Drops the oldest partition all of whose rows are older than `maxAgeMs`; undefined when there is none. Not in a transaction.
 * @throws what Postgres says when somebody holds the table for too long: the next call goes on
 */
export async function retirePartition(
  { db, transaction }: Pick<Store, "db" | "transaction">,
  feed: FeedName,
  maxAgeMs: number,
): Promise<Retired | undefined> {
  await dropDetached(db, feed);
  const [clock] = await db.execute<{ now: string }>(sql`select now()::text as now`);
  const oldMs = new Date(clock!.now).getTime() - maxAgeMs;
  const all = await partitionsOf(db, feed);
  const [oldest] = all;
  if (oldest === undefined || all.length === 1) return undefined;
  if (!oldest.leaving && oldest.to.getTime() > oldMs) return undefined;
  const [table, partition] = [sql.identifier(feed), sql.identifier(oldest.name)];
  if (oldest.leaving) {
    await db.execute(sql`alter table ${table} detach partition ${partition} finalize`);
  } else {
    await transaction((tx) => markGone(tx, feed, oldest));
    if (feed === "changes") await carryForward(transaction, oldest.name);
    await db.execute(sql`alter table ${table} detach partition ${partition} concurrently`);
  }
  await db.execute(sql`drop table ${partition}`);
  return { partition: oldest.name, to: oldest.to };
}

/** Cursors below the partition's last row are refused from here on, and questions about times before its end. */
async function markGone(tx: Tx, feed: FeedName, { name, to }: Partition): Promise<void> {
  const partition = sql.identifier(name);
  await tx.execute(sql`
    insert into feed_marks (feed, xid, id, until)
    select ${feed}, coalesce(l.xid, '0'::xid8), coalesce(l.id, 0), ${to.toISOString()}::timestamptz
    from (values (1)) one left join (select xid, id from ${partition} order by xid desc, id desc limit 1) l on true
    on conflict (feed) do update set
      xid = case when (excluded.xid, excluded.id) > (feed_marks.xid, feed_marks.id) then excluded.xid else feed_marks.xid end,
      id = case when (excluded.xid, excluded.id) > (feed_marks.xid, feed_marks.id) then excluded.id else feed_marks.id end,
      until = greatest(feed_marks.until, excluded.until)`);
}

/** What each object was at the partition's end, for those that it says something of; some at a time, for watches wait. */
async function carryForward(transaction: Store["transaction"], name: string): Promise<void> {
  type Key = { readonly kind: string; readonly namespace: string; readonly name: string };
  let after: Key | undefined = { kind: "", namespace: "", name: "" };
  while (after !== undefined) {
    const from: Key = after;
    after = await transaction(async (tx) => {
      const [row] = await tx.execute<{ kind: string | null; namespace: string; name: string; count: number }>(sql`
        with last as (
          select distinct on (kind, namespace, name) kind, namespace, name, id, op, object, created_at
          from ${sql.identifier(name)}
          where (kind, namespace, name) > (${from.kind}, ${from.namespace}, ${from.name})
          order by kind, namespace, name, id desc limit ${CARRY_OBJECTS}),
        gone as (
          delete from history_base b using last l
          where l.op = 'DELETED' and (b.kind, b.namespace, b.name) = (l.kind, l.namespace, l.name) and b.id < l.id),
        kept as (
          insert into history_base (kind, namespace, name, id, object, changed_at)
          select kind, namespace, name, id, object, created_at from last where op <> 'DELETED'
          on conflict (kind, namespace, name) do update
            set id = excluded.id, object = excluded.object, changed_at = excluded.changed_at
            where history_base.id < excluded.id)
        select kind, namespace, name, count(*) over ()::int as count from last
        order by kind desc, namespace desc, name desc limit 1`);
      return row === undefined || row.count < CARRY_OBJECTS ? undefined : (row as Key);
    });
  }
}

/** Tables that were detached and not dropped: whoever was at it has died between. */
async function dropDetached(db: Tx, feed: FeedName): Promise<void> {
  const rows = await db.execute<{ name: string }>(sql`
    select c.relname as name from pg_class c
    where c.relkind = 'r' and c.relname ~ ${`^${feed}_([0-9]{8}t[0-9]{9}z|before)$`} and not c.relispartition
      and c.relnamespace = (select relnamespace from pg_class where oid = ${feed}::regclass)
      and not exists (select from pg_inherits i where i.inhrelid = c.oid)`);
  for (const { name } of rows) await db.execute(sql`drop table ${sql.identifier(name)}`);
}
