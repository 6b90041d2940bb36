/**
 * What a drill looks at: the tasks of a slice of nodes before it, what became of them, and what must hold throughout. Statements
 * only; when a drill has converged and what it means is the controller's to say.
 */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";

/** A task of the slice, as it was when the drill began. */
export interface DrilledTask {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly workloadUid: string;
  readonly slot: number;
  readonly desired: string;
  readonly fence: boolean;
  readonly phase: string;
  readonly attempt: number;
  readonly generation: number;
  readonly certainty: string;
}

const COLUMNS = sql`uid::text as uid, namespace, name, node, workload_uid::text as "workloadUid", slot, desired, fence, phase,
  attempt, workload_generation::float8 as generation, certainty`;

type Row = DrilledTask & Record<string, unknown>;

export async function tasksOnNodes(tx: Tx, nodes: readonly string[]): Promise<DrilledTask[]> {
  if (nodes.length === 0) return [];
  return [...(await tx.execute<Row>(sql`select ${COLUMNS} from tasks where node in ${[...nodes]} order by 2, 3`))];
}

/** All tasks of these workloads that are not gone, wherever they are. */
export async function tasksOfWorkloads(tx: Tx, uids: readonly string[]): Promise<DrilledTask[]> {
  if (uids.length === 0) return [];
  return [...(await tx.execute<Row>(sql`select ${COLUMNS} from tasks where workload_uid::text in ${[...uids]}`))];
}

/** Generations of workloads that are still wanted, by uid: who changed one amid a drill wants other tasks. */
export async function workloadGenerations(tx: Tx, uids: readonly string[]): Promise<Map<string, number>> {
  if (uids.length === 0) return new Map();
  const rows = await tx.execute<{ uid: string; generation: number }>(sql`
    select uid::text as uid, generation::float8 as generation from workloads
    where deleted_at is null and uid::text in ${[...uids]}`);
  return new Map(rows.map(({ uid, generation }) => [uid, generation]));
}

/** The newest drill that began and whose cut lasts still; whoever ran it may be gone. */
export async function drillUnderWay(tx: Tx): Promise<{ readonly drill: string; readonly leftMs: number } | undefined> {
  const [row] = await tx.execute<{ drill: string; leftMs: number }>(sql`
    select name as drill, extract(epoch from (attributes ->> 'until')::timestamptz - clock_timestamp())::float8 * 1000 as "leftMs"
    from events begun where topic = '/drills/start' and stored_at > now() - interval '15 minutes'
      and (attributes ->> 'until')::timestamptz > clock_timestamp()
      and not exists (select from events where topic = '/drills/end' and name = begun.name and attributes ->> 'over' = 'true'
        and stored_at > now() - interval '15 minutes')
    order by id desc limit 1`);
  return row;
}

/** D4: of every journal of these nodes, each entry between the oldest and the newest stored one is there, once. */
export async function journalGaps(tx: Tx, nodes: readonly string[]): Promise<string[]> {
  const rows = await tx.execute<{ node: string; count: number; first: number; last: number }>(sql`
    select node, count(*)::int as count, min(journal_seq)::float8 as first, max(journal_seq)::float8 as last
    from events where journal_seq is not null and node in ${[...nodes]} group by node, journal_epoch
    having count(*) <> count(distinct journal_seq) or count(*) <> max(journal_seq) - min(journal_seq) + 1`);
  return rows.map(({ node, count, first, last }) => `journal of ${node}: ${count} entries from ${first} to ${last}`);
}

export interface RunTimes {
  readonly startedAtMs: number | undefined;
  readonly endedAtMs: number | undefined;
}

/** Of tasks, by the journals: when each first started, and when it last ended. */
export async function runTimes(tx: Tx, uids: readonly string[]): Promise<Map<string, RunTimes>> {
  if (uids.length === 0) return new Map();
  const rows = await tx.execute<{ uid: string; started: number | null; ended: number | null }>(sql`
    select uid, (extract(epoch from min(time) filter (where topic = '/tasks/start')) * 1000)::float8 as started,
      (extract(epoch from max(time) filter (where topic in ('/tasks/exit', '/tasks/stopped', '/tasks/failed'))) * 1000)::float8 as ended
    from events where uid in ${[...uids]} and stored_at > now() - interval '1 hour' group by uid`);
  return new Map(
    rows.map(({ uid, started, ended }) => [uid, { startedAtMs: started ?? undefined, endedAtMs: ended ?? undefined }]),
  );
}
