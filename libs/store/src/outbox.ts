/** Jobs on their way into the nodes' queues: written with the change they tell of, taken by dispatch. */
import type { JsonObject } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { OUTBOX_CHANNEL } from "./feed/record.ts";

export interface NewJob {
  readonly node: string;
  readonly name: string;
  /** Deterministic (D2). */
  readonly id: string;
  /** A berth.v1.Job in protobuf's JSON form: as it is written, and as Redis gets it. */
  readonly job: JsonObject;
}

export interface OutboxJob extends NewJob {
  /** Of the outbox's row. */
  readonly row: number;
  /** Of the node's agent: {@link LeaseRenewal.features}. */
  readonly features: readonly string[];
}

export async function addToOutbox(tx: Tx, jobs: readonly NewJob[]): Promise<void> {
  if (jobs.length === 0) return;
  await tx.execute(sql`
    with written as (
      insert into outbox (node, job_name, job_id, job)
      select node, name, id, job
      from jsonb_to_recordset(${JSON.stringify(jobs)}::jsonb) as r(node text, name text, id text, job jsonb))
    select pg_notify(${OUTBOX_CHANNEL}, '')`);
}

/** The oldest rows that nobody else is at, locked until the transaction ends. */
export async function takeFromOutbox(tx: Tx, limit: number): Promise<OutboxJob[]> {
  const rows = await tx.execute<Omit<OutboxJob, "row"> & { row: string }>(sql`
    select o.id::text as row, o.node, o.job_name as name, o.job_id as id, o.job, coalesce(n.features, '{}') as features
    from outbox o left join nodes n on n.name = o.node
    order by o.id limit ${limit} for update of o skip locked`);
  return rows.map(({ row, ...rest }) => ({ ...rest, row: Number(row) }));
}

export async function deleteFromOutbox(tx: Tx, rows: readonly number[]): Promise<void> {
  await tx.execute(sql`
    delete from outbox where id in (select value::bigint from jsonb_array_elements_text(${JSON.stringify(rows)}::jsonb))`);
}

export async function outboxDepth(tx: Tx): Promise<number> {
  const [row] = await tx.execute<{ depth: number }>(sql`select count(*)::int as depth from outbox`);
  return row?.depth ?? 0;
}
