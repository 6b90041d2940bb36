/** Why tasks are where they are: one record for the tasks of a workload in a batch, kept while one of them is there. */
import { eq, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { placementDecisions, type PlacementRecord } from "./schema/index.ts";

export type { NodeTaint, PlacementRecord, RecordedPoints } from "./schema/index.ts";
export type DecisionRow = typeof placementDecisions.$inferSelect;

/** Ids in the order of the records. */
export async function insertDecisions(
  tx: Tx,
  records: readonly { readonly workloadUid: string; readonly record: PlacementRecord }[],
): Promise<number[]> {
  if (records.length === 0) return [];
  const rows = await tx
    .insert(placementDecisions)
    .values([...records])
    .returning({ id: placementDecisions.id });
  return rows.map(({ id }) => id);
}

export async function getDecision(tx: Tx, id: number): Promise<DecisionRow | undefined> {
  const [row] = await tx.select().from(placementDecisions).where(eq(placementDecisions.id, id));
  return row;
}

/** Forgets records that no task points to any more, at most `limit`; returns how many. */
export async function pruneDecisions(tx: Tx, limit: number): Promise<number> {
  const done = await tx.execute(sql`
    delete from placement_decisions where id in (
      select d.id from placement_decisions d
      where not exists (select from tasks t where t.workload_uid = d.workload_uid and t.decision_id = d.id)
      order by d.id limit ${limit})`);
  return done.count;
}
