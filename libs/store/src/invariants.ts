/**
 * What must hold of every fleet, whatever is done to it, as statements over its journals and its history. Drills (`berth drill`) and
 * the chaos suite judge by these alone, so that what a drill says on a fleet at work is what chaos has proven of the code.
 */
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { STORE_NOW_MS } from "./time.ts";

export interface InvariantScope {
  /** Journals of these; absent: of all nodes. */
  readonly nodes?: readonly string[];
  /** Absent: all tasks. */
  readonly tasks?: readonly { readonly namespace: string; readonly name: string; readonly uid: string }[];
  /** Only what was stored after that. */
  readonly since?: StoreMark;
}

/** A point of the store's history: what a reader there did not see came later, however long its transaction had been open. */
export interface StoreMark {
  /** Postgres' clock. */
  readonly at: Date;
  /** A pg_snapshot. */
  readonly snapshot: string;
}

/** Of this transaction: with what it reads by one snapshot ({@link Store.snapshot}), nothing falls between. */
export async function storeMark(tx: Tx): Promise<StoreMark> {
  const [row] = await tx.execute<{ ms: number; snapshot: string }>(sql`
    select ${STORE_NOW_MS} as ms, pg_current_snapshot()::text as snapshot`);
  return { at: new Date(row!.ms), snapshot: row!.snapshot };
}

/** A condition on events or changes, after others. The time only bounds what is read: transactions are shorter than that. */
export function after(since: StoreMark | undefined, time: "stored_at" | "created_at"): SQL | undefined {
  if (since === undefined) return undefined;
  return sql`and ${sql.identifier(time)} >= ${since.at.toISOString()}::timestamptz - interval '5 minutes'
    and not pg_visible_in_snapshot(xid, ${since.snapshot}::pg_snapshot)`;
}

/** D4: each entry of a journal is stored once, and the one before it is, too, unless that was dropped by age. For people. */
export async function journalGaps(tx: Tx, { nodes, since }: InvariantScope = {}): Promise<string[]> {
  if (nodes?.length === 0) return [];
  const rows = await tx.execute<{ node: string; count: number; first: number; last: number }>(sql`
    select node, count, first, last from (
      select node, journal_epoch, count(*)::int as count, count(distinct journal_seq)::int as different,
        min(journal_seq)::float8 as first, max(journal_seq)::float8 as last
      from events where journal_seq is not null ${nodes && sql`and node in ${[...nodes]}`} ${after(since, "stored_at")}
      group by node, journal_epoch) as j
    where count <> different or different <> last - first + 1 or (first <> 1
      and not exists (select from feed_marks where feed = 'events' and until is not null)
      and not exists (select from events e where e.node = j.node and e.journal_epoch = j.journal_epoch and e.journal_seq = j.first - 1))`);
  return rows.map(({ node, count, first, last }) => `journal of ${node}: ${count} entries from ${first} to ${last}`);
}

/** An execution is (task, generation, attempt), and begins once. */
export interface ExecutionStarts {
  readonly uid: string;
  readonly name: string;
  readonly generation: number;
  readonly attempt: number;
  readonly count: number;
}

/** How often each execution began, by the journals. */
export async function executionStarts(tx: Tx, { tasks, since }: InvariantScope = {}): Promise<ExecutionStarts[]> {
  if (tasks?.length === 0) return [];
  return [
    ...(await tx.execute<ExecutionStarts & Record<string, unknown>>(sql`
      select uid, name, coalesce(attributes ->> 'generation', '0')::float8 as generation,
        coalesce(attributes ->> 'attempt', '0')::float8 as attempt, count(*)::int as count
      from events where topic = '/tasks/start' ${tasks && sql`and uid in ${tasks.map(({ uid }) => uid)}`} ${after(since, "stored_at")}
      group by 1, 2, 3, 4`)),
  ];
}

/** D2: at-least-once delivery, exactly-one effect. For people. */
export function repeatedStarts(starts: readonly ExecutionStarts[]): string[] {
  return starts
    .filter(({ count }) => count > 1)
    .map((each) => `${each.name} ${each.generation}.${each.attempt} began ${each.count} times, by the journals`);
}

/** D3: an execution that has ended stays as it ended, through every change of it that is kept. For people. */
export async function changedEnds(tx: Tx, { tasks, since }: InvariantScope = {}): Promise<string[]> {
  if (tasks?.length === 0) return [];
  const among = tasks && sql`and (namespace, name) in (${pairs(tasks)})`;
  const rows = await tx.execute<{ subject: string; was: string; now: string }>(sql`
    select format('%s/%s', namespace, name) as subject, was, now from (
      select namespace, name, created_at, xid, phase || coalesce(' (' || code || ')', '') as now, phase, code,
        lag(phase || coalesce(' (' || code || ')', '')) over execution as was,
        lag(phase) over execution as phase_before, lag(code) over execution as code_before
      from (
        select id, xid, uid, namespace, name, created_at, object -> 'metadata' ->> 'generation' as generation,
          object -> 'status' ->> 'attempt' as attempt, object -> 'status' ->> 'phase' as phase,
          object -> 'status' ->> 'exitCode' as code
        from changes where kind = 'Task' ${among}) as states
      window execution as (partition by uid, generation, attempt order by id)) as steps
    where (phase_before in ('Succeeded', 'Failed', 'Stopped') and phase <> phase_before
        or code_before is not null and code is distinct from code_before)
      ${after(since, "created_at")}
    order by 1`);
  return rows.map(({ subject, was, now }) => `${subject} was ${was} and is ${now}`);
}

function pairs(tasks: NonNullable<InvariantScope["tasks"]>): SQL {
  const text = JSON.stringify(tasks.map(({ namespace, name }) => ({ namespace, name })));
  return sql`select r.namespace, r.name from jsonb_to_recordset(${text}::jsonb) as r(namespace text, name text)`;
}
