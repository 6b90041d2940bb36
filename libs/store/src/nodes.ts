/** Rows of nodes: reading and locking them, and what operators change. What agents say of themselves is written by `leases.ts`. */
import { toJson, type JsonObject } from "@bufbuild/protobuf";
import type { Requirement } from "@berth/model";
import {
  NodeDrainSchema,
  NodeDrainStatusSchema,
  NodeSchema,
  type Node,
  type NodeDrain,
  type NodeDrainStatus,
} from "@berth/proto";
import { and, eq, gt, sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { storeTime } from "./time.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { nodeMessage, type NodeRow } from "./node-message.ts";
import { selectNodes } from "./node-rows.ts";
import { nodeUsage } from "./node-usage.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { nodes, type NodeTaint } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";

export async function getNode(tx: Tx, name: string): Promise<NodeRow | undefined> {
  const [row] = await selectNodes(tx, sql`where name = ${name}`);
  return row;
}

/** Rows locked in the order of their names. */
export function lockNodes(tx: Tx, names: readonly string[]): Promise<NodeRow[]> {
  return selectNodes(tx, sql`where ${nodeIn(names)} order by name for update`);
}

export async function lockNode(tx: Tx, name: string): Promise<NodeRow | undefined> {
  const [row] = await lockNodes(tx, [name]);
  return row;
}

export async function listNodes(
  tx: Tx,
  query: PageRequest & { readonly selector?: readonly Requirement[] },
): Promise<Page<NodeRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 1);
  const where = and(selectorSql(nodes.effectiveLabels, query.selector ?? []), after && gt(nodes.name, after[0]!));
  const rows = await selectNodes(tx, sql`where ${where ?? sql`true`} order by name limit ${limit + 1}`);
  return pageOf(rows, limit, (row) => [row.name]);
}

/** These nodes, as they are now. */
export function nodesByName(tx: Tx, names: readonly string[]): Promise<NodeRow[]> {
  return selectNodes(tx, sql`where ${nodeIn(names)}`);
}

/** Every node, for placement and campaigns. */
export function allNodes(tx: Tx, where?: SQL): Promise<NodeRow[]> {
  return selectNodes(tx, sql`where ${where ?? sql`true`} order by name`);
}

/** Of those of these names that there are. */
export async function nodePhases(tx: Tx, names: readonly string[]): Promise<Map<string, string>> {
  const rows = await tx
    .select({ name: nodes.name, phase: nodes.phase })
    .from(nodes)
    .where(sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
  return new Map(rows.map(({ name, phase }) => [name, phase]));
}

/** Messages with everything that is counted from elsewhere. */
export async function nodeMessages(tx: Tx, rows: readonly NodeRow[]): Promise<Node[]> {
  const usage = await nodeUsage(
    tx,
    rows.map((row) => row.name),
  );
  return rows.map((row) => nodeMessage(row, usage.get(row.name)));
}

export interface NodePatch {
  readonly labels?: Record<string, string>;
  readonly cordoned?: boolean;
  readonly taints?: NodeTaint[];
  readonly cpuOvercommit?: number;
  readonly memoryOvercommit?: number;
  /** Null ends the drain; a new one begins now. */
  readonly drain?: NodeDrain | null;
}

/** What an operator changes, of a row that this transaction has locked. */
export async function updateNode(tx: Tx, row: NodeRow, { drain, ...patch }: NodePatch): Promise<NodeRow> {
  const [updated] = await tx
    .update(nodes)
    .set({
      ...patch,
      ...(drain === undefined ? {} : await drainColumns(tx, drain)),
      generation: row.generation + (drain === undefined && Object.keys(patch).every((key) => key === "labels") ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(nodes.name, row.name))
    .returning();
  await recordNodes(tx, [updated!], "MODIFIED");
  return updated!;
}

async function drainColumns(
  tx: Tx,
  drain: NodeDrain | null,
): Promise<Pick<NodeRow, "drain" | "drainStartedAt" | "drainStatus">> {
  if (drain === null) return { drain: null, drainStartedAt: null, drainStatus: null };
  return {
    drain: toJson(NodeDrainSchema, drain) as JsonObject,
    drainStartedAt: await storeTime(tx),
    drainStatus: null,
  };
}

/** How far its drain is. */
export async function setDrainStatus(tx: Tx, row: NodeRow, status: NodeDrainStatus): Promise<NodeRow> {
  const [updated] = await tx
    .update(nodes)
    .set({
      drainStatus: toJson(NodeDrainStatusSchema, status) as JsonObject,
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(nodes.name, row.name))
    .returning();
  await recordNodes(tx, [updated!], "MODIFIED");
  return updated!;
}

/** Nodes whose tasks are to leave, or have. */
export function drainingNodes(tx: Tx): Promise<NodeRow[]> {
  return selectNodes(tx, sql`where drain is not null order by name`);
}

/** Something that is told of these nodes beside their rows has changed: watches are to see it. */
export async function touchNodes(tx: Tx, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const rows = await lockNodes(tx, names);
  const resourceVersion = sql`${nodes.resourceVersion} + 1`;
  await tx.update(nodes).set({ resourceVersion }).where(nodeIn(names));
  await recordNodes(
    tx,
    rows.map((row) => ({ ...row, resourceVersion: row.resourceVersion + 1 })),
    "MODIFIED",
  );
}

/** Forgets a node's row and its journal's watermarks. Its tasks are the caller's business, before. */
export async function removeNode(tx: Tx, row: NodeRow): Promise<void> {
  await recordNodes(tx, [row], "DELETED");
  await tx.execute(sql`
    insert into forgotten_nodes (name, assignment_revision) select name, assignment_revision + 1 from nodes
    where name = ${row.name}
    on conflict (name) do update set assignment_revision = excluded.assignment_revision`);
  await tx.execute(sql`delete from journal_state where node = ${row.name}`);
  await tx.execute(sql`delete from outbox where node = ${row.name}`);
  await tx.execute(sql`delete from node_images where node = ${row.name}`);
  await tx.execute(sql`delete from campaign_targets where node = ${row.name}`);
  await tx.delete(nodes).where(eq(nodes.name, row.name));
}

export async function recordNodes(tx: Tx, rows: readonly NodeRow[], op: ChangeOp): Promise<void> {
  if (rows.length === 0) return;
  const messages = await nodeMessages(tx, rows);
  await recordChanges(
    tx,
    rows.map((row, index) => ({
      kind: "Node",
      namespace: "",
      name: row.name,
      uid: row.uid,
      op,
      object: toJson(NodeSchema, messages[index]!) as JsonObject,
    })),
  );
}

export function nodeIn(names: readonly string[]): SQL {
  return sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`;
}
