/**
 * Work that does not go on, for `berth status`: rollouts, jobs, campaigns and cron jobs that need somebody. One statement each,
 * over what reconcilers have written down; each answers with at most {@link MOST_ROWS} rows, the newest trouble first.
 */
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";

const MOST_ROWS = 200;

/** A rollout that failed, went back, is held, or goes on without getting any further. */
export interface RolloutTrouble {
  readonly namespace: string;
  readonly name: string;
  readonly phase: string;
  readonly revision: number;
  readonly target: number;
  readonly done: number;
  readonly desired: number;
  readonly reason: string;
  readonly message: string;
  /** Of the last progress, and of what the phase tells where it is final. */
  readonly since: Date | undefined;
}

/** @param stalledMs without progress for so long; @param pausedMs held for so long */
export async function troubledRollouts(
  tx: Tx,
  { stalledMs, pausedMs }: { readonly stalledMs: number; readonly pausedMs: number },
): Promise<RolloutTrouble[]> {
  return await troublesOf(
    tx,
    sql`
    select namespace, name, phase, revision, target, done, desired, reason, message, since::text as since from (
      select namespace, name, r ->> 'phase' as phase, (r ->> 'revision')::int as revision,
        (r ->> 'targetRevision')::int as target, coalesce((r ->> 'done')::int, 0) as done,
        coalesce((status ->> 'desired')::int, 0) as desired, coalesce(r ->> 'reason', '') as reason,
        coalesce(r ->> 'message', '') as message,
        coalesce(r ->> 'finishedAt', r ->> 'progressedAt')::timestamptz as since
      from workloads, lateral (select status -> 'rollout' as r) rollout
      where deleted_at is null and r ->> 'phase' <> 'Complete' and (r ->> 'revision')::bigint = workloads.revision) found
    where phase in ('Failed', 'RollingBack', 'RolledBack')
      or (phase = 'Progressing' and since < now() - make_interval(secs => ${stalledMs / 1_000}))
      or (phase = 'Paused' and since < now() - make_interval(secs => ${pausedMs / 1_000}))
    order by found.since desc, namespace, name limit ${MOST_ROWS}`,
  );
}

export interface JobTrouble {
  readonly namespace: string;
  readonly name: string;
  /** The cron job that began it; empty: none. */
  readonly cronJob: string;
  readonly reason: string;
  readonly message: string;
  readonly since: Date | undefined;
}

/** Jobs that failed for good. Of a cron job's only the newest, and none when a later one has come to its end well. */
export async function failedJobs(tx: Tx, cronJobLabel: string): Promise<JobTrouble[]> {
  return await troublesOf(
    tx,
    sql`
    select namespace, name, "cronJob", reason, message, since from (
      select distinct on (namespace, case when cron = '' then uid::text else cron end)
        namespace, name, cron as "cronJob", status #>> '{job,phase}' as phase,
        coalesce(status #>> '{job,reason}', '') as reason, coalesce(status #>> '{job,message}', '') as message,
        status #>> '{job,finishedAt}' as since
      from workloads, lateral (select coalesce(labels ->> ${cronJobLabel}, '') as cron) made
      where deleted_at is null and status #>> '{job,phase}' in ('Failed', 'Complete')
        and (status #>> '{job,revision}')::bigint = revision
      order by namespace, case when cron = '' then uid::text else cron end, created_at desc) newest
    where phase = 'Failed' order by since desc nulls last, namespace, name limit ${MOST_ROWS}`,
  );
}

export interface CampaignTrouble {
  readonly namespace: string;
  readonly name: string;
  readonly targets: number;
  readonly failed: number;
  /** Of one of the failed targets. */
  readonly node: string;
  readonly message: string;
  readonly since: Date | undefined;
}

/** Campaigns that failed, at the generation that is wanted. */
export async function failedCampaigns(tx: Tx): Promise<CampaignTrouble[]> {
  return await troublesOf(
    tx,
    sql`
    select c.namespace, c.name, coalesce((c.status ->> 'targets')::int, 0) as targets,
      coalesce((c.status ->> 'failed')::int, 0) as failed, coalesce(t.node, '') as node,
      coalesce(t.message, '') as message, c.finished_at::text as since
    from campaigns c left join lateral (
      select node, message from campaign_targets
      where campaign_uid = c.uid and phase = 'Failed' order by node, image limit 1) t on true
    where c.deleted_at is null and c.phase = 'Failed' and c.observed_generation = c.generation
    order by c.finished_at desc, c.namespace, c.name limit ${MOST_ROWS}`,
  );
}

export interface CronTrouble {
  readonly namespace: string;
  readonly name: string;
  /** Its newest scheduled times that did not begin a run, in a row. 0: nobody has decided what is due. */
  readonly missed: number;
  readonly message: string;
  readonly since: Date | undefined;
}

/** Cron jobs whose last times did not begin a run, and those that nobody has looked at though they were due so long ago. */
export async function troubledCronJobs(tx: Tx, overdueMs: number): Promise<CronTrouble[]> {
  return await troublesOf(
    tx,
    sql`
    select c.namespace, c.name, coalesce(m.missed, 0) as missed, coalesce(m.message, '') as message,
      coalesce(m.since, c.look_at)::text as since
    from cron_jobs c left join lateral (
      select count(*)::int as missed, (array_agg(r.message order by r.scheduled_at desc))[1] as message,
        min(r.scheduled_at) as since
      from cron_runs r where r.cron_uid = c.uid and r.outcome in ('Missed', 'Skipped') and r.scheduled_at > coalesce((
        select max(s.scheduled_at) from cron_runs s
        where s.cron_uid = c.uid and s.outcome not in ('Missed', 'Skipped')), '-infinity')) m on true
    where c.deleted_at is null and coalesce((c.spec ->> 'suspend')::boolean, false) = false
      and (m.missed > 0 or c.look_at < now() - make_interval(secs => ${overdueMs / 1_000}))
    order by 5 desc, 1, 2 limit ${MOST_ROWS}`,
  );
}

interface Dated {
  readonly since: Date | undefined;
}

async function troublesOf<T extends Dated>(tx: Tx, query: SQL): Promise<T[]> {
  const rows = await tx.execute<Record<string, unknown> & { readonly since: string | null }>(query);
  return rows.map((row) => ({ ...row, since: row.since === null ? undefined : new Date(row.since) }) as unknown as T);
}
