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
import { and, asc, eq, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { metadataOf, optional, parse } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { workloads } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";

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

export async function getWorkload(tx: Tx, namespace: string, name: string): Promise<WorkloadRow | undefined> {
  const [row] = await tx
    .select()
    .from(workloads)
    .where(and(eq(workloads.namespace, namespace), eq(workloads.name, name)));
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockWorkload(tx: Tx, namespace: string, name: string): Promise<WorkloadRow | undefined> {
  const [row] = await tx
    .select()
    .from(workloads)
    .where(and(eq(workloads.namespace, namespace), eq(workloads.name, name)))
    .for("update");
  return row;
}

export async function lockWorkloadByUid(tx: Tx, uid: string): Promise<WorkloadRow | undefined> {
  const [row] = await tx.select().from(workloads).where(eq(workloads.uid, uid)).for("update");
  return row;
}

export async function listWorkloads(tx: Tx, query: NamespacedQuery): Promise<Page<WorkloadRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 2);
  const rows = await tx
    .select()
    .from(workloads)
    .where(
      and(
        query.namespace === undefined ? undefined : eq(workloads.namespace, query.namespace),
        selectorSql(workloads.labels, query.selector ?? []),
        after && sql`(${workloads.namespace}, ${workloads.name}) > (${after[0]}, ${after[1]})`,
      ),
    )
    .orderBy(asc(workloads.namespace), asc(workloads.name))
    .limit(limit + 1);
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
  },
): Promise<WorkloadRow> {
  const spec = toJson(WorkloadSpecSchema, workload.spec) as JsonObject;
  const [row] = await tx
    .insert(workloads)
    .values({ ...workload, uid: uuidv7(), spec })
    .returning();
  await recordWorkload(tx, row!, "ADDED");
  return row!;
}

/** Of a row that this transaction has locked. A new spec raises the generation. */
export async function updateWorkload(
  tx: Tx,
  row: WorkloadRow,
  patch: {
    readonly labels?: Record<string, string>;
    readonly spec?: WorkloadSpec;
    readonly status?: WorkloadStatus;
    readonly deletedAt?: Date;
  },
): Promise<WorkloadRow> {
  const { spec, status, ...rest } = patch;
  const [updated] = await tx
    .update(workloads)
    .set({
      ...rest,
      ...optional("spec", spec && (toJson(WorkloadSpecSchema, spec) as JsonObject)),
      ...optional("status", status && (toJson(WorkloadStatusSchema, status) as JsonObject)),
      generation: row.generation + (spec === undefined ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(workloads.uid, row.uid))
    .returning();
  await recordWorkload(tx, updated!, "MODIFIED");
  return updated!;
}

/** The last step: it has no tasks any more. */
export async function removeWorkload(tx: Tx, row: WorkloadRow): Promise<void> {
  await tx.delete(workloads).where(eq(workloads.uid, row.uid));
  await recordWorkload(tx, row, "DELETED");
}

async function recordWorkload(tx: Tx, row: WorkloadRow, op: ChangeOp): Promise<void> {
  const object = toJson(WorkloadSchema, workloadMessage(row)) as JsonObject;
  const { namespace, name, uid } = row;
  await recordChanges(tx, [{ kind: "Workload", namespace, name, uid, op, object }]);
}
