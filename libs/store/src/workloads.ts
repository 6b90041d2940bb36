/** Rows of workloads. */
import { uuidv7 } from "@berth/base";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import type { Requirement } from "@berth/model";
import {
  WorkloadSchema,
  WorkloadSpecSchema,
  WorkloadStatusSchema,
  type Workload,
  type WorkloadSpec,
  type WorkloadStatus,
} from "@berth/proto";
import { and, eq, sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { HISTORY } from "./meta.ts";
import { STORE_NOW_MS } from "./time.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { metadataOf, optional, parse } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { workloads } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";
import { wholeRows } from "./whole-rows.ts";
import { describeChange, insertRevision, pruneRevisions, removeRevisions, sameTemplate } from "./workload-revisions.ts";

export type WorkloadRow = typeof workloads.$inferSelect;

export interface NamespacedQuery extends PageRequest {
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly selector?: readonly Requirement[];
}

export function workloadMessage(row: WorkloadRow): Workload {
  return create(WorkloadSchema, {
    metadata: metadataOf(row),
    spec: workloadSpec(row),
    status: workloadStatus(row),
  });
}

export const workloadSpec = (row: WorkloadRow): WorkloadSpec => parse(WorkloadSpecSchema, row.spec);
export const workloadStatus = (row: WorkloadRow): WorkloadStatus => parse(WorkloadStatusSchema, row.status);

const WHOLE = wholeRows(workloads);

/** @param rest what follows `from workloads` */
async function selectWorkloads(tx: Tx, rest: SQL): Promise<WorkloadRow[]> {
  const rows = await tx.execute(sql`select ${WHOLE.columns} from workloads ${rest}`);
  return rows.map((row) => WHOLE.read(row));
}

export async function getWorkload(tx: Tx, namespace: string, name: string): Promise<WorkloadRow | undefined> {
  const [row] = await selectWorkloads(tx, sql`where namespace = ${namespace} and name = ${name}`);
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockWorkload(tx: Tx, namespace: string, name: string): Promise<WorkloadRow | undefined> {
  const [row] = await selectWorkloads(tx, sql`where namespace = ${namespace} and name = ${name} for update`);
  return row;
}

export async function lockWorkloadByUid(tx: Tx, uid: string): Promise<WorkloadRow | undefined> {
  const [row] = await selectWorkloads(tx, sql`where uid = ${uid}::uuid for update`);
  return row;
}

/** The same, with the time by Postgres (the one clock that all controllers and all that is written share), and {@link HISTORY}. */
export async function lockWorkloadAndTime(
  tx: Tx,
  uid: string,
): Promise<{ readonly workload: WorkloadRow; readonly now: Date; readonly history: string } | undefined> {
  const [found] = await tx
    .select({ workload: workloads, nowMs: STORE_NOW_MS, history: HISTORY })
    .from(workloads)
    .where(eq(workloads.uid, uid))
    .for("update");
  return found && { workload: found.workload, now: new Date(found.nowMs), history: found.history };
}

export async function listWorkloads(tx: Tx, query: NamespacedQuery): Promise<Page<WorkloadRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 2);
  const where = and(
    query.namespace === undefined ? undefined : eq(workloads.namespace, query.namespace),
    selectorSql(workloads.labels, query.selector ?? []),
    after && sql`(${workloads.namespace}, ${workloads.name}) > (${after[0]}, ${after[1]})`,
  );
  const rows = await selectWorkloads(tx, sql`where ${where ?? sql`true`} order by namespace, name limit ${limit + 1}`);
  return pageOf(rows, limit, (row) => [row.namespace, row.name]);
}

/** @throws ALREADY_EXISTS */
export async function insertWorkload(
  tx: Tx,
  workload: {
    readonly namespace: string;
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly spec: WorkloadSpec;
    /** Of its first revision. */
    readonly cause?: string;
  },
): Promise<WorkloadRow> {
  const { cause = "", ...rest } = workload;
  const spec = toJson(WorkloadSpecSchema, workload.spec) as JsonObject;
  const [row] = await tx
    .insert(workloads)
    .values({ ...rest, uid: uuidv7(), spec })
    .returning();
  const { uid: workloadUid, revision, generation } = row!;
  await insertRevision(tx, { workloadUid, revision, generation, restart: false, cause }, workload.spec);
  await recordWorkload(tx, row!, "ADDED");
  return row!;
}

/**
 * Of a row that this transaction has locked. A new spec raises the generation, and makes a new revision where it says something
 * new of the tasks, or where they are to be restarted.
 */
export async function updateWorkload(
  tx: Tx,
  row: WorkloadRow,
  patch: {
    readonly labels?: Record<string, string>;
    readonly spec?: WorkloadSpec;
    readonly status?: WorkloadStatus;
    readonly deletedAt?: Date;
    readonly paused?: boolean;
    /** Of the revision, if one is made. */
    readonly cause?: string;
    readonly restart?: boolean;
  },
): Promise<WorkloadRow> {
  const { spec, status, cause = "", restart = false, ...rest } = patch;
  const revision = spec === undefined ? row.revision : await nextRevision(tx, row, spec, { cause, restart });
  const [updated] = await tx
    .update(workloads)
    .set({
      ...rest,
      ...optional("spec", spec && (toJson(WorkloadSpecSchema, spec) as JsonObject)),
      ...optional("status", status && (toJson(WorkloadStatusSchema, status) as JsonObject)),
      revision,
      generation: row.generation + (spec === undefined ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(workloads.uid, row.uid))
    .returning();
  await recordWorkload(tx, updated!, "MODIFIED");
  return updated!;
}

async function nextRevision(
  tx: Tx,
  row: WorkloadRow,
  spec: WorkloadSpec,
  { cause, restart }: { readonly cause: string; readonly restart: boolean },
): Promise<number> {
  const before = workloadSpec(row);
  if (!restart && sameTemplate(before, spec)) return row.revision;
  const revision = row.revision + 1;
  const why = cause || (restart ? "restart" : describeChange(before, spec));
  const made = { workloadUid: row.uid, revision, generation: row.generation + 1, restart, cause: why };
  await insertRevision(tx, made, spec);
  const { targetRevision = 0n, stableRevision = 0n } = workloadStatus(row).rollout ?? {};
  await pruneRevisions(tx, row.uid, revision, spec, [Number(targetRevision), Number(stableRevision)]);
  return revision;
}

/** The last step: it has no tasks any more. */
export async function removeWorkload(tx: Tx, row: WorkloadRow): Promise<void> {
  await removeRevisions(tx, row.uid);
  await tx.delete(workloads).where(eq(workloads.uid, row.uid));
  await recordWorkload(tx, row, "DELETED");
}

async function recordWorkload(tx: Tx, row: WorkloadRow, op: ChangeOp): Promise<void> {
  const object = toJson(WorkloadSchema, workloadMessage(row)) as JsonObject;
  const { namespace, name, uid } = row;
  await recordChanges(tx, [{ kind: "Workload", namespace, name, uid, op, object }]);
}
