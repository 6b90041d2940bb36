/** Rows of cron jobs and of what became of their scheduled times. */
import { uuidv7 } from "@berth/base";
import { create, equals, toJson, type JsonObject } from "@bufbuild/protobuf";
import {
  CronJobSchema,
  CronJobSpecSchema,
  CronJobStatusSchema,
  CronRunSchema,
  type CronJob,
  type CronJobSpec,
  type CronRun,
} from "@berth/proto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { and, asc, desc, eq, inArray, lte, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { metadataOf, optional, parse, timestampOf } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page } from "./page.ts";
import { cronJobs, cronRuns, workloads } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";
import type { NamespacedQuery, WorkloadRow } from "./workloads.ts";

export type CronJobRow = typeof cronJobs.$inferSelect;
export type CronRunRow = typeof cronRuns.$inferSelect;

export const cronJobSpec = (row: CronJobRow): CronJobSpec => parse(CronJobSpecSchema, row.spec);

export function cronJobMessage(row: CronJobRow): CronJob {
  const status = create(CronJobStatusSchema, {
    ...optional("lastScheduledAt", timestampOf(row.lastScheduledAt)),
    ...optional("nextAt", timestampOf(row.nextAt)),
    active: row.active,
  });
  return create(CronJobSchema, { metadata: metadataOf(row), spec: cronJobSpec(row), status });
}

export function cronRunMessage({ scheduledAt, outcome, message, workload }: CronRunRow): CronRun {
  return create(CronRunSchema, { scheduledAt: timestampFromDate(scheduledAt), outcome, message, workload });
}

const named = (namespace: string, name: string) => and(eq(cronJobs.namespace, namespace), eq(cronJobs.name, name));

export async function getCronJob(tx: Tx, namespace: string, name: string): Promise<CronJobRow | undefined> {
  const [row] = await tx.select().from(cronJobs).where(named(namespace, name));
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockCronJob(tx: Tx, namespace: string, name: string): Promise<CronJobRow | undefined> {
  const [row] = await tx.select().from(cronJobs).where(named(namespace, name)).for("update");
  return row;
}

/** One that is to be looked at, locked; one that somebody else looks at is left to them. */
export async function lockDueCronJob(tx: Tx, now: Date): Promise<CronJobRow | undefined> {
  const [row] = await tx
    .select()
    .from(cronJobs)
    .where(lte(cronJobs.lookAt, now))
    .orderBy(asc(cronJobs.lookAt))
    .limit(1)
    .for("update", { skipLocked: true });
  return row;
}

export async function listCronJobs(tx: Tx, query: NamespacedQuery): Promise<Page<CronJobRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 2);
  const rows = await tx
    .select()
    .from(cronJobs)
    .where(
      and(
        query.namespace === undefined ? undefined : eq(cronJobs.namespace, query.namespace),
        selectorSql(cronJobs.labels, query.selector ?? []),
        after && sql`(${cronJobs.namespace}, ${cronJobs.name}) > (${after[0]}, ${after[1]})`,
      ),
    )
    .orderBy(asc(cronJobs.namespace), asc(cronJobs.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.namespace, row.name]);
}

/** @throws ALREADY_EXISTS */
export async function insertCronJob(
  tx: Tx,
  cronJob: { readonly namespace: string; readonly name: string; readonly labels: Record<string, string> },
  spec: CronJobSpec,
  now: Date,
): Promise<CronJobRow> {
  const json = toJson(CronJobSpecSchema, spec) as JsonObject;
  const [row] = await tx
    .insert(cronJobs)
    .values({ ...cronJob, uid: uuidv7(), spec: json, decidedUntil: now, lookAt: now })
    .returning();
  await recordCronJob(tx, row!, "ADDED");
  return row!;
}

/** Of a row that this transaction has locked. A new spec raises the generation; a look that shows nothing new is no change. */
export async function updateCronJob(
  tx: Tx,
  row: CronJobRow,
  patch: Partial<Omit<CronJobRow, "spec" | "uid">> & { readonly spec?: CronJobSpec },
): Promise<CronJobRow> {
  const { spec, ...rest } = patch;
  const shows = spec !== undefined || showsOther(row, { ...row, ...rest });
  const [updated] = await tx
    .update(cronJobs)
    .set({
      ...rest,
      ...optional("spec", spec && (toJson(CronJobSpecSchema, spec) as JsonObject)),
      generation: row.generation + (spec === undefined ? 0 : 1),
      resourceVersion: row.resourceVersion + (shows ? 1 : 0),
    })
    .where(eq(cronJobs.uid, row.uid))
    .returning();
  if (shows) await recordCronJob(tx, updated!, "MODIFIED");
  return updated!;
}

export async function removeCronJob(tx: Tx, row: CronJobRow): Promise<void> {
  await tx.delete(cronRuns).where(eq(cronRuns.cronUid, row.uid));
  await tx.delete(cronJobs).where(eq(cronJobs.uid, row.uid));
  await recordCronJob(tx, row, "DELETED");
}

const showsOther = (before: CronJobRow, after: CronJobRow): boolean =>
  !equals(CronJobSchema, cronJobMessage(before), cronJobMessage(after));

async function recordCronJob(tx: Tx, row: CronJobRow, op: ChangeOp): Promise<void> {
  const object = toJson(CronJobSchema, cronJobMessage(row)) as JsonObject;
  const { namespace, name, uid } = row;
  await recordChanges(tx, [{ kind: "CronJob", namespace, name, uid, op, object }]);
}

/** Of a namespace that goes away: from then on nothing of it begins. */
export async function removeCronJobsOf(tx: Tx, namespace: string): Promise<void> {
  const rows = await tx.select().from(cronJobs).where(eq(cronJobs.namespace, namespace)).for("update");
  for (const row of rows) await removeCronJob(tx, row);
}

/** @throws ALREADY_EXISTS when that time has been decided already */
export async function insertCronRun(tx: Tx, run: typeof cronRuns.$inferInsert): Promise<void> {
  await tx.insert(cronRuns).values(run);
}

/** The newest first. */
export function cronRunsOf(tx: Tx, cronUid: string, limit: number): Promise<CronRunRow[]> {
  return tx
    .select()
    .from(cronRuns)
    .where(eq(cronRuns.cronUid, cronUid))
    .orderBy(desc(cronRuns.scheduledAt))
    .limit(limit);
}

/** The workloads that its runs made and that are still there, the newest run first. Locked. */
export function lockCronWorkloads(tx: Tx, cronUid: string): Promise<WorkloadRow[]> {
  const made = tx.select({ uid: cronRuns.workloadUid }).from(cronRuns).where(eq(cronRuns.cronUid, cronUid));
  return tx
    .select()
    .from(workloads)
    .where(inArray(workloads.uid, made))
    .orderBy(desc(workloads.createdAt))
    .for("update");
}

/** Forgets all but the newest; those whose workload is still there stay. */
export async function pruneCronRuns(tx: Tx, cronUid: string, keep: number): Promise<void> {
  await tx.execute(sql`
    delete from cron_runs r where cron_uid = ${cronUid}
      and scheduled_at < (select min(scheduled_at) from (
        select scheduled_at from cron_runs where cron_uid = ${cronUid} order by scheduled_at desc limit ${keep}) newest)
      and not exists (select from workloads w where w.uid = r.workload_uid)`);
}
