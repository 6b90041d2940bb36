/** What the reconciler reads. */
import { and, asc, eq, inArray, isNull, sql } from "drizzle-orm";
import type { CampaignRow } from "./campaigns.ts";
import type { Tx } from "./database.ts";
import { campaigns, namespaces, tasks, workloads } from "./schema/index.ts";
import { selectTasks, type TaskRow } from "./task-rows.ts";
import type { WorkloadRow } from "./workloads.ts";

export interface ResourceRef {
  readonly namespace: string;
  readonly uid: string;
}

/** Every task of a workload, also those that are going away. Not locked. */
export function tasksOfWorkload(tx: Tx, workloadUid: string): Promise<TaskRow[]> {
  return selectTasks(tx, sql`where workload_uid = ${workloadUid} order by slot, uid`);
}

/** Workloads that have tasks on this node, and all tasks of those workloads: what a drain of it has to do with. */
export async function workloadsAndTasksOf(
  tx: Tx,
  node: string,
): Promise<{ readonly workloads: readonly WorkloadRow[]; readonly tasks: readonly TaskRow[] }> {
  const uids = tx.select({ uid: tasks.workloadUid }).from(tasks).where(eq(tasks.node, node));
  return {
    workloads: await tx.select().from(workloads).where(inArray(workloads.uid, uids)).orderBy(asc(workloads.uid)),
    tasks: await selectTasks(tx, sql`where ${inArray(tasks.workloadUid, uids)} order by tasks.slot, tasks.uid`),
  };
}

export async function namespacesOf(tx: Tx): Promise<string[]> {
  const rows = await tx.select({ name: namespaces.name }).from(namespaces);
  return rows.map((row) => row.name);
}

export function workloadRefs(tx: Tx): Promise<ResourceRef[]> {
  return tx.select({ namespace: workloads.namespace, uid: workloads.uid }).from(workloads);
}

export function campaignRefs(tx: Tx): Promise<ResourceRef[]> {
  return tx.select({ namespace: campaigns.namespace, uid: campaigns.uid }).from(campaigns);
}

/** Campaigns that a change of a node may concern: those that run. */
export function runningCampaignRefs(tx: Tx): Promise<ResourceRef[]> {
  return tx
    .select({ namespace: campaigns.namespace, uid: campaigns.uid })
    .from(campaigns)
    .where(eq(campaigns.phase, "Running"));
}

/** Workloads that a change of a node concerns: those with tasks on it, and those that want one on every node. */
export async function workloadsOnNode(tx: Tx, node: string): Promise<ResourceRef[]> {
  const rows = await tx.execute<{ namespace: string; uid: string }>(sql`
    select distinct namespace, workload_uid::text as uid from tasks where node = ${node}
    union select namespace, uid::text from workloads where (spec ->> 'everyNode')::boolean`);
  return [...rows];
}

/** Of a namespace that goes away: what has not been told yet. Locked. */
export function workloadsToDelete(tx: Tx, namespace: string): Promise<WorkloadRow[]> {
  return tx
    .select()
    .from(workloads)
    .where(and(eq(workloads.namespace, namespace), isNull(workloads.deletedAt)))
    .orderBy(asc(workloads.uid))
    .for("update");
}

export function campaignsToDelete(tx: Tx, namespace: string): Promise<CampaignRow[]> {
  return tx
    .select()
    .from(campaigns)
    .where(and(eq(campaigns.namespace, namespace), isNull(campaigns.deletedAt)))
    .orderBy(asc(campaigns.uid))
    .for("update");
}

export async function namespaceIsEmpty(tx: Tx, name: string): Promise<boolean> {
  const [row] = await tx.execute<{ empty: boolean }>(sql`
    select not exists (select from workloads where namespace = ${name})
      and not exists (select from campaigns where namespace = ${name})
      and not exists (select from tasks where namespace = ${name}) as empty`);
  return row?.empty === true;
}
