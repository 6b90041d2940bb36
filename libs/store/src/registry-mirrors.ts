/**
 * Rows of registry mirrors: how all nodes reach registries.
 *
 * Invariant: whoever changes one raises the revision in `store_meta` in the same transaction. That row is locked by it until
 * the end, so that revisions and contents are in one order: who reads both in one snapshot has what belongs together.
 */
import { uuidv7 } from "@berth/base";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import type { Requirement } from "@berth/model";
import {
  MirrorsReplySchema,
  RegistryMirrorSchema,
  RegistryMirrorSpecSchema,
  type MirrorsReply,
  type RegistryMirror,
  type RegistryMirrorSpec,
} from "@berth/proto";
import { and, asc, eq, gt, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { metadataOf, optional, parse } from "./messages.ts";
import { getStoreMeta } from "./meta.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { registryMirrors } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";

export type RegistryMirrorRow = typeof registryMirrors.$inferSelect;

export const registryMirrorSpec = (row: RegistryMirrorRow): RegistryMirrorSpec =>
  parse(RegistryMirrorSpecSchema, row.spec);

export function registryMirrorMessage(row: RegistryMirrorRow): RegistryMirror {
  return create(RegistryMirrorSchema, { metadata: metadataOf(row), spec: registryMirrorSpec(row) });
}

export async function getRegistryMirror(tx: Tx, name: string): Promise<RegistryMirrorRow | undefined> {
  const [row] = await tx.select().from(registryMirrors).where(eq(registryMirrors.name, name));
  return row;
}

/** Which mirror speaks for a registry. */
export async function registryMirrorOf(tx: Tx, registry: string): Promise<RegistryMirrorRow | undefined> {
  const [row] = await tx.select().from(registryMirrors).where(eq(registryMirrors.registry, registry));
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockRegistryMirror(tx: Tx, name: string): Promise<RegistryMirrorRow | undefined> {
  const [row] = await tx.select().from(registryMirrors).where(eq(registryMirrors.name, name)).for("update");
  return row;
}

export async function listRegistryMirrors(
  tx: Tx,
  query: PageRequest & { readonly selector?: readonly Requirement[] },
): Promise<Page<RegistryMirrorRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 1);
  const rows = await tx
    .select()
    .from(registryMirrors)
    .where(and(selectorSql(registryMirrors.labels, query.selector ?? []), after && gt(registryMirrors.name, after[0]!)))
    .orderBy(asc(registryMirrors.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.name]);
}

/** One page of what every node is told. Give it one snapshot ({@link Store.snapshot}). */
export async function mirrorsPage(tx: Tx, offset: number, limit: number): Promise<MirrorsReply> {
  const { storeEpoch, mirrorsRevision } = await getStoreMeta(tx);
  const rows = await tx
    .select()
    .from(registryMirrors)
    .orderBy(asc(registryMirrors.name))
    .offset(offset)
    .limit(limit + 1);
  return create(MirrorsReplySchema, {
    storeEpoch,
    revision: BigInt(mirrorsRevision),
    mirrors: rows.slice(0, limit).map(registryMirrorMessage),
    nextOffset: rows.length > limit ? offset + limit : 0,
  });
}

/** @throws ALREADY_EXISTS */
export async function insertRegistryMirror(
  tx: Tx,
  mirror: { readonly name: string; readonly labels: Record<string, string>; readonly spec: RegistryMirrorSpec },
): Promise<RegistryMirrorRow> {
  const { name, labels, spec } = mirror;
  const [row] = await tx
    .insert(registryMirrors)
    .values({ uid: uuidv7(), name, labels, ...columnsOf(spec) })
    .returning();
  await raiseRevision(tx);
  return row!;
}

/** Of a row that this transaction has locked. A new spec raises the generation. */
export async function updateRegistryMirror(
  tx: Tx,
  row: RegistryMirrorRow,
  patch: { readonly labels?: Record<string, string>; readonly spec?: RegistryMirrorSpec },
): Promise<RegistryMirrorRow> {
  const { labels, spec } = patch;
  const [updated] = await tx
    .update(registryMirrors)
    .set({
      ...optional("labels", labels),
      ...(spec && columnsOf(spec)),
      generation: row.generation + (spec === undefined ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(registryMirrors.name, row.name))
    .returning();
  if (spec !== undefined) await raiseRevision(tx);
  return updated!;
}

export async function removeRegistryMirror(tx: Tx, row: RegistryMirrorRow): Promise<void> {
  await tx.delete(registryMirrors).where(eq(registryMirrors.name, row.name));
  await raiseRevision(tx);
}

function columnsOf(spec: RegistryMirrorSpec): { readonly spec: JsonObject; readonly registry: string } {
  return { spec: toJson(RegistryMirrorSpecSchema, spec) as JsonObject, registry: spec.registry };
}

async function raiseRevision(tx: Tx): Promise<void> {
  await tx.execute(sql`update store_meta set mirrors_revision = mirrors_revision + 1`);
}
