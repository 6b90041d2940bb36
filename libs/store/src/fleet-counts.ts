/** Counts for metrics: one cheap statement each. */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";

export async function countTasksByPhase(
  tx: Tx,
): Promise<{ readonly phase: string; readonly certainty: string; readonly count: number }[]> {
  return [
    ...(await tx.execute<{ phase: string; certainty: string; count: number }>(
      sql`select phase, certainty, count(*)::int as count from tasks group by phase, certainty`,
    )),
  ];
}

export async function countNodesByPhase(tx: Tx): Promise<{ readonly phase: string; readonly count: number }[]> {
  return [
    ...(await tx.execute<{ phase: string; count: number }>(
      sql`select phase, count(*)::int as count from nodes group by phase`,
    )),
  ];
}

/** Phases as `webhookMessage` has them. */
export async function countWebhooksByPhase(tx: Tx): Promise<{ readonly phase: string; readonly count: number }[]> {
  return [
    ...(await tx.execute<{ phase: string; count: number }>(sql`
      select case when gone_at is not null then 'Gone' when (spec ->> 'suspend')::boolean then 'Suspended'
        when failures > 0 then 'Failing' else 'Active' end as phase, count(*)::int as count
      from webhooks group by 1`)),
  ];
}
