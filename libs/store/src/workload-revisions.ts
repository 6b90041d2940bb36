/**
 * Revisions of workloads: what their tasks were, are and are to become.
 *
 * A revision is a spec without what is not the tasks' own (how many, how rollouts and drains go). The
 * newest is the spec's; older ones are kept to go back to, as many as the spec says, and always those that the rollout needs
 * (its target, the last good one). Rows are written only in the transaction that changes the workload's row.
 */
import { clone, create, equals, toJson, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { WorkloadRevisionSchema, WorkloadSpecSchema, type WorkloadRevision, type WorkloadSpec } from "@berth/proto";
import { and, desc, eq, notInArray, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { parse } from "./messages.ts";
import { workloadRevisions } from "./schema/index.ts";

export type RevisionRow = typeof workloadRevisions.$inferSelect;

const DEFAULT_HISTORY = 10;

/** What a revision speaks of. */
export function templateOf(spec: WorkloadSpec): WorkloadSpec {
  const template = clone(WorkloadSpecSchema, spec);
  delete template.replicas;
  delete template.rollout;
  delete template.disruption;
  delete template.job;
  template.everyNode = false;
  return template;
}

/** The spec with its template replaced. */
export function withTemplate(spec: WorkloadSpec, template: WorkloadSpec): WorkloadSpec {
  const result = clone(WorkloadSpecSchema, template);
  if (spec.replicas !== undefined) result.replicas = spec.replicas;
  if (spec.rollout !== undefined) result.rollout = spec.rollout;
  if (spec.disruption !== undefined) result.disruption = spec.disruption;
  if (spec.job !== undefined) result.job = spec.job;
  result.everyNode = spec.everyNode;
  return result;
}

export const sameTemplate = (a: WorkloadSpec, b: WorkloadSpec): boolean =>
  equals(WorkloadSpecSchema, templateOf(a), templateOf(b));

export const revisionSpec = (row: RevisionRow): WorkloadSpec => parse(WorkloadSpecSchema, row.template);

export function revisionMessage(row: RevisionRow): WorkloadRevision {
  return create(WorkloadRevisionSchema, {
    revision: BigInt(row.revision),
    generation: BigInt(row.generation),
    cause: row.cause,
    createdAt: timestampFromDate(row.createdAt),
    spec: revisionSpec(row),
  });
}

/** The newest first. */
export function revisionsOf(tx: Tx, workloadUid: string): Promise<RevisionRow[]> {
  return tx
    .select()
    .from(workloadRevisions)
    .where(eq(workloadRevisions.workloadUid, workloadUid))
    .orderBy(desc(workloadRevisions.revision));
}

export async function insertRevision(
  tx: Tx,
  revision: Pick<RevisionRow, "workloadUid" | "revision" | "generation" | "restart" | "cause">,
  spec: WorkloadSpec,
): Promise<void> {
  const template = toJson(WorkloadSpecSchema, templateOf(spec)) as JsonObject;
  await tx.insert(workloadRevisions).values({ ...revision, template });
}

/** Forgets what is beyond the history, but none of `needed`. */
export async function pruneRevisions(
  tx: Tx,
  workloadUid: string,
  newest: number,
  spec: WorkloadSpec,
  needed: readonly number[],
): Promise<void> {
  const oldest = newest - (spec.rollout?.historyLimit ?? DEFAULT_HISTORY);
  await tx
    .delete(workloadRevisions)
    .where(
      and(
        eq(workloadRevisions.workloadUid, workloadUid),
        sql`${workloadRevisions.revision} <= ${oldest}`,
        needed.length === 0 ? undefined : notInArray(workloadRevisions.revision, [...needed]),
      ),
    );
}

export async function removeRevisions(tx: Tx, workloadUid: string): Promise<void> {
  await tx.delete(workloadRevisions).where(eq(workloadRevisions.workloadUid, workloadUid));
}

/** What is different, by field: `container.image, container.env`. Pure. */
export function describeChange(before: WorkloadSpec, after: WorkloadSpec): string {
  const [was, is] = [before, after].map((spec) => toJson(WorkloadSpecSchema, templateOf(spec)) as JsonObject);
  return changedFields(was!, is!, 1).join(", ");
}

function changedFields(before: JsonObject, after: JsonObject, depth: number): string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].sort().flatMap((key) => {
    const [was, is] = [before[key], after[key]];
    if (JSON.stringify(was) === JSON.stringify(is)) return [];
    const nested = isObject(was) && isObject(is) && depth > 0;
    return nested ? changedFields(was, is, depth - 1).map((field) => `${key}.${field}`) : [key];
  });
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
