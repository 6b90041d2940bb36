/**
 * What `berth status` is made of: a few statements over the whole fleet, whatever its size, that answer with counts and with
 * groups of what is in trouble. Give it one snapshot, so that the parts agree. What counts as trouble is the reader's to say.
 */
import { sql } from "drizzle-orm";
import { LOCKS_APPLICATION } from "./advisory-locks.ts";
import type { Tx } from "./database.ts";
import { MEMBERS_LOCK, ingestLock, reconcileLock } from "./lock-keys.ts";

export interface TaskGroup {
  readonly desired: string;
  readonly phase: string;
  readonly certainty: string;
  readonly placed: boolean;
  /** Waits for its next attempt. */
  readonly waiting: boolean;
  readonly count: number;
}

/** Tasks of one workload, or of one node, in the same trouble. */
export interface Trouble {
  readonly namespace: string;
  readonly workload: string;
  readonly node: string;
  /** One of them. */
  readonly name: string;
  readonly reason: string;
  readonly message: string;
  readonly count: number;
  /** The most failures in a row of any of them. */
  readonly failures: number;
  /** None of them is tried again. */
  readonly forGood: boolean;
  readonly since: Date | undefined;
  readonly until: Date | undefined;
}

export interface JournalLag {
  readonly node: string;
  readonly lag: number;
  readonly storedAt: Date | undefined;
}

export interface ControllerRow {
  readonly name: string;
  readonly since: Date;
  readonly reconcilePartitions: number;
  readonly journalShards: number;
  readonly otherLocks: number;
}

export function taskGroups(tx: Tx): Promise<TaskGroup[]> {
  return rowsOf(
    tx.execute<TaskGroup & Record<string, unknown>>(sql`
      select desired, phase, certainty, node is not null as placed, next_attempt_at is not null as waiting,
        count(*)::int as count
      from tasks group by 1, 2, 3, 4, 5`),
  );
}

/** By workload, tasks that no node fits. */
export function unplaceableTasks(tx: Tx): Promise<Trouble[]> {
  return troubles(tx, sql`node is null and desired = 'Run' and reason = 'NoNodeFits'`, sql`workload`, sql`created_at`);
}

/** By workload and reason, tasks that fail again and again, or have failed for good. */
export function failingTasks(tx: Tx, failuresInARow: number): Promise<Trouble[]> {
  const again = sql`next_attempt_at is not null and failures >= ${failuresInARow}`;
  // What has failed just now is looked at by the reconciler first.
  const forGood = sql`phase = 'Failed' and next_attempt_at is null and finished_at < now() - interval '5 seconds'`;
  const starting = sql`failures >= ${failuresInARow} and phase not in ('Running', 'Succeeded')`;
  return troubles(
    tx,
    sql`desired = 'Run' and certainty not in ('unreachable', 'fenced') and ((${again}) or (${forGood}) or (${starting}))`,
    sql`workload`,
    sql`finished_at`,
  );
}

/** By node, tasks that possibly run: their node is silent. */
export function unreachableTasks(tx: Tx): Promise<Trouble[]> {
  const open = sql`phase not in ('Succeeded', 'Failed', 'Stopped')`;
  return troubles(tx, sql`certainty = 'unreachable' and ${open}`, sql`node`, sql`null::timestamptz`);
}

/** By node, tasks that were told to stop so long ago and are still there, on nodes that are heard. */
export function stuckStops(tx: Tx, longerThanMs: number): Promise<Trouble[]> {
  const old = sql`deleted_at < now() - make_interval(secs => ${longerThanMs / 1_000})`;
  return troubles(tx, sql`desired = 'Stop' and not removed and certainty not in ('unreachable', 'fenced') and ${old}`, sql`node`, sql`deleted_at`); // prettier-ignore
}

const MOST_GROUPS = 50;

async function troubles(
  tx: Tx,
  where: ReturnType<typeof sql>,
  by: ReturnType<typeof sql>,
  since: ReturnType<typeof sql>,
): Promise<Trouble[]> {
  type Row = Omit<Trouble, "since" | "until"> & { since: string | null; until: string | null };
  const rows = await tx.execute<Row & Record<string, unknown>>(sql`
    select coalesce(min(namespace), '') as namespace, min(workload) as workload, coalesce(min(node), '') as node,
      min(name) as name, reason, coalesce(max(message) filter (where message <> ''), '') as message,
      count(*)::int as count, max(failures)::int as failures,
      bool_and(phase = 'Failed' and next_attempt_at is null) as "forGood", min(${since})::text as since,
      max(possibly_until)::text as until
    from tasks where ${where} group by ${by}, case when ${by} = workload then namespace else '' end, reason
    order by count(*) desc, 1, 2 limit ${MOST_GROUPS}`);
  return rows.map((row) => ({ ...row, since: dateOf(row.since), until: dateOf(row.until) }));
}

export async function workloadCounts(tx: Tx): Promise<{ readonly total: number; readonly settled: number }> {
  const count = (field: string) => sql`coalesce((status ->> ${field})::int, 0)`;
  const [row] = await tx.execute<{ total: number; settled: number }>(sql`
    select count(*)::int as total, count(*) filter (where
      coalesce((status ->> 'observedGeneration')::bigint, 0) >= generation
      and ${count("running")} + ${count("succeeded")} >= ${count("desired")}
      and ${count("updated")} >= ${count("desired")})::int as settled
    from workloads where deleted_at is null`);
  return row ?? { total: 0, settled: 0 };
}

/** Nodes that hold their lease and have said that their journal goes on beyond what is stored; most first. */
export async function journalLags(tx: Tx): Promise<JournalLag[]> {
  const rows = await tx.execute<{ node: string; lag: string; stored: string | null }>(sql`
    select n.name as node, (n.journal_head_seq - coalesce(j.stored_seq, 0))::text as lag, j.updated_at::text as stored
    from nodes n left join journal_state j on j.node = n.name and j.epoch = n.journal_epoch
    where n.phase <> 'Unknown' and n.journal_head_seq > coalesce(j.stored_seq, 0)
    order by n.journal_head_seq - coalesce(j.stored_seq, 0) desc`);
  return rows.map(({ node, lag, stored }) => ({ node, lag: Number(lag), storedAt: dateOf(stored) }));
}

export interface Backlog {
  readonly newestStoredAt: Date | undefined;
  readonly outbox: number;
  readonly oldestOutboxAt: Date | undefined;
}

export async function backlog(tx: Tx): Promise<Backlog> {
  const [row] = await tx.execute<{ stored: string | null; outbox: number; oldest: string | null }>(sql`
    select (select max(updated_at)::text from journal_state) as stored,
      (select count(*)::int from outbox) as outbox, (select min(created_at)::text from outbox) as oldest`);
  return {
    newestStoredAt: dateOf(row?.stored ?? null),
    outbox: row?.outbox ?? 0,
    oldestOutboxAt: dateOf(row?.oldest ?? null),
  };
}

/** Who takes part in the work now: those that hold the members' lock, with what else they hold. */
export async function controllersAtWork(tx: Tx): Promise<ControllerRow[]> {
  const held = (what: number) => sql`count(*) filter (where l.classid::bigint = ${what})::int`;
  const [members] = MEMBERS_LOCK;
  const [reconcile] = reconcileLock(0);
  const [ingest] = ingestLock(0);
  const rows = await tx.execute<{ name: string; since: string; reconcile: number; shards: number; other: number }>(sql`
    select substr(a.application_name, ${LOCKS_APPLICATION.length + 1}) as name, min(a.backend_start)::text as since,
      ${held(reconcile)} as reconcile, ${held(ingest)} as shards,
      count(*) filter (where l.classid::bigint not in (${members}, ${reconcile}, ${ingest}))::int as other
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2
      and l.database = (select oid from pg_database where datname = current_database())
      and a.application_name like ${`${LOCKS_APPLICATION.trim()}%`}
    group by a.pid, a.application_name having ${held(members)} > 0 order by 1`);
  return rows.map((row) => ({
    name: row.name,
    since: new Date(row.since),
    reconcilePartitions: row.reconcile,
    journalShards: row.shards,
    otherLocks: row.other,
  }));
}

function dateOf(text: string | null): Date | undefined {
  return text === null ? undefined : new Date(text);
}

async function rowsOf<T>(answer: Promise<Iterable<T>>): Promise<T[]> {
  return [...(await answer)];
}
