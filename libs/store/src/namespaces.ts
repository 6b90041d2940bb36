/** Rows of namespaces. */
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import type { Requirement } from "@berth/model";
import {
  NamespaceSchema,
  NamespaceSpecSchema,
  NamespaceStatusSchema,
  type Namespace,
  type NamespaceSpec,
} from "@berth/proto";
import { uuidv7 } from "@berth/base";
import { and, asc, eq, gt, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { metadataOf, parse } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { namespaces, tasks, workloads } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";

export type NamespaceRow = typeof namespaces.$inferSelect;

export interface NamespaceCounts {
  readonly workloads: number;
  readonly tasks: number;
}

export function namespaceMessage(row: NamespaceRow, counts: NamespaceCounts = { workloads: 0, tasks: 0 }): Namespace {
  return create(NamespaceSchema, {
    metadata: metadataOf(row),
    spec: parse(NamespaceSpecSchema, row.spec),
    status: create(NamespaceStatusSchema, {
      observedGeneration: BigInt(row.observedGeneration),
      phase: row.deletedAt === null ? "Active" : "Terminating",
      ...counts,
    }),
  });
}

export async function getNamespace(tx: Tx, name: string): Promise<NamespaceRow | undefined> {
  const [row] = await tx.select().from(namespaces).where(eq(namespaces.name, name));
  return row;
}

/** The row, locked until the transaction ends: nothing else changes or removes it meanwhile. */
export async function lockNamespace(tx: Tx, name: string): Promise<NamespaceRow | undefined> {
  const [row] = await tx.select().from(namespaces).where(eq(namespaces.name, name)).for("update");
  return row;
}

/**
 * The row, kept from being removed until the transaction ends, for those who put something into it. Others may do so at the
 * same time.
 */
export async function holdNamespace(tx: Tx, name: string): Promise<NamespaceRow | undefined> {
  const [row] = await tx.select().from(namespaces).where(eq(namespaces.name, name)).for("share");
  return row;
}

export async function listNamespaces(
  tx: Tx,
  query: PageRequest & { readonly selector?: readonly Requirement[] },
): Promise<Page<NamespaceRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 1);
  const rows = await tx
    .select()
    .from(namespaces)
    .where(and(selectorSql(namespaces.labels, query.selector ?? []), after && gt(namespaces.name, after[0]!)))
    .orderBy(asc(namespaces.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.name]);
}

/** How much each of these namespaces owns. */
export async function countNamespaces(tx: Tx, names: readonly string[]): Promise<ReadonlyMap<string, NamespaceCounts>> {
  const rows = await tx.execute<{ name: string; workloads: number; tasks: number }>(sql`
    select n.name,
      (select count(*)::int from ${workloads} w where w.namespace = n.name) as workloads,
      (select count(*)::int from ${tasks} t where t.namespace = n.name) as tasks
    from jsonb_array_elements_text(${JSON.stringify(names)}::jsonb) as n(name)`);
  return new Map(rows.map(({ name, ...counts }) => [name, counts]));
}

/** @throws ALREADY_EXISTS */
export async function insertNamespace(
  tx: Tx,
  namespace: { readonly name: string; readonly labels: Record<string, string>; readonly spec: NamespaceSpec },
): Promise<NamespaceRow> {
  const spec = toJson(NamespaceSpecSchema, namespace.spec) as JsonObject;
  const [row] = await tx
    .insert(namespaces)
    .values({ uid: uuidv7(), name: namespace.name, labels: namespace.labels, spec, observedGeneration: 1 })
    .returning();
  await recordNamespace(tx, row!, "ADDED");
  return row!;
}

/** Of a row that this transaction has locked. A new spec raises the generation. */
export async function updateNamespace(
  tx: Tx,
  row: NamespaceRow,
  patch: { readonly labels?: Record<string, string>; readonly spec?: NamespaceSpec; readonly deletedAt?: Date },
): Promise<NamespaceRow> {
  const { spec, ...rest } = patch;
  const generation = row.generation + (spec === undefined ? 0 : 1);
  const [updated] = await tx
    .update(namespaces)
    .set({
      ...rest,
      ...(spec === undefined ? {} : { spec: toJson(NamespaceSpecSchema, spec) as JsonObject }),
      generation,
      observedGeneration: generation,
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(namespaces.name, row.name))
    .returning();
  await recordNamespace(tx, updated!, "MODIFIED");
  return updated!;
}

/** The last step: nothing is left in it. */
export async function removeNamespace(tx: Tx, row: NamespaceRow): Promise<void> {
  await tx.delete(namespaces).where(eq(namespaces.name, row.name));
  await recordNamespace(tx, row, "DELETED");
}

async function recordNamespace(tx: Tx, row: NamespaceRow, op: ChangeOp): Promise<void> {
  const object = toJson(NamespaceSchema, namespaceMessage(row)) as JsonObject;
  await recordChanges(tx, [{ kind: "Namespace", namespace: "", name: row.name, uid: row.uid, op, object }]);
}
