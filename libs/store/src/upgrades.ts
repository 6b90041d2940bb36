/**
 * Rows of upgrades and of their nodes.
 *
 * Invariants: at most one upgrade is Running or Paused; a node's order has its id before anybody is asked to carry it out, so that
 * whoever goes on with the upgrade gives the same order; what has ended stays as it ended.
 */
import { uuidv7 } from "@berth/base";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import {
  UpgradeNodeSchema,
  UpgradeSchema,
  UpgradeSpecSchema,
  UpgradeStatusSchema,
  type Upgrade,
  type UpgradeNode,
  type UpgradeSpec,
} from "@berth/proto";
import { asc, desc, eq, inArray, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { optional, parse, timestampOf } from "./messages.ts";
import { upgradeNodes, upgrades } from "./schema/index.ts";

export type UpgradeRow = typeof upgrades.$inferSelect;
export type UpgradeNodeRow = typeof upgradeNodes.$inferSelect;

/** Ordered, and it is not known yet what came of it. */
export const UNDER_WAY: ReadonlySet<string> = new Set(["Ordered", "Fetching", "Starting"]);
/** It runs what it ran before, or nobody knows. */
export const NOT_KEPT: ReadonlySet<string> = new Set(["TakenBack", "Refused", "Silent"]);

export const upgradeSpec = (row: UpgradeRow): UpgradeSpec => parse(UpgradeSpecSchema, row.spec);

export function upgradeMessage(row: UpgradeRow, nodes: readonly UpgradeNodeRow[], withNodes = true): Upgrade {
  const count = (is: (phase: string) => boolean): number => nodes.filter(({ phase }) => is(phase)).length;
  const open = nodes.find(({ phase }) => phase === "Waiting" || UNDER_WAY.has(phase));
  const status = create(UpgradeStatusSchema, {
    phase: row.phase,
    message: row.message,
    group: open?.group ?? 0,
    groups: nodes.at(-1)?.group ?? 0,
    nodes: nodes.length,
    waiting: count((phase) => phase === "Waiting"),
    underWay: count((phase) => UNDER_WAY.has(phase)),
    proven: count((phase) => phase === "Proven"),
    failed: count((phase) => NOT_KEPT.has(phase)),
    skipped: count((phase) => phase === "Skipped"),
    ...optional("startedAt", timestampOf(row.startedAt)),
    ...optional("finishedAt", timestampOf(row.finishedAt)),
    ...optional("bakingUntil", timestampOf(row.bakingUntil)),
  });
  return create(UpgradeSchema, {
    name: String(row.id),
    spec: upgradeSpec(row),
    status,
    nodes: withNodes ? nodes.map(nodeMessage) : [],
  });
}

function nodeMessage(row: Omit<UpgradeNodeRow, "upgradeId" | "orderId">): UpgradeNode {
  return create(UpgradeNodeSchema, {
    node: row.node,
    group: row.group,
    from: row.fromVersion,
    to: row.toVersion,
    phase: row.phase,
    message: row.message,
    ...optional("orderedAt", timestampOf(row.orderedAt)),
    ...optional("finishedAt", timestampOf(row.finishedAt)),
  });
}

export type NewUpgradeNode = Pick<UpgradeNodeRow, "node" | "group" | "fromVersion" | "toVersion">;

/** @throws ALREADY_EXISTS when one is Running or Paused */
export async function insertUpgrade(
  tx: Tx,
  spec: UpgradeSpec,
  nodes: readonly NewUpgradeNode[],
): Promise<{ readonly row: UpgradeRow; readonly nodes: readonly UpgradeNodeRow[] }> {
  const [row] = await tx
    .insert(upgrades)
    .values({ spec: toJson(UpgradeSpecSchema, spec) as JsonObject })
    .returning();
  const rows = nodes.map((node) => ({ ...node, upgradeId: row!.id, orderId: uuidv7() }));
  const inserted: UpgradeNodeRow[] = [];
  for (let from = 0; from < rows.length; from += ROWS_PER_INSERT)
    inserted.push(
      ...(await tx
        .insert(upgradeNodes)
        .values(rows.slice(from, from + ROWS_PER_INSERT))
        .returning()),
    );
  return { row: row!, nodes: inserted };
}

const ROWS_PER_INSERT = 1_000;

/** What an upgrade would be, which is not stored. */
export function plannedUpgrade(spec: UpgradeSpec, nodes: readonly NewUpgradeNode[]): Upgrade {
  const rest = { phase: "Waiting", message: "", orderedAt: null, finishedAt: null };
  const groups = nodes.at(-1)?.group ?? 0;
  const status = create(UpgradeStatusSchema, { phase: "Planned", nodes: nodes.length, waiting: nodes.length, groups });
  return create(UpgradeSchema, { spec, status, nodes: nodes.map((node) => nodeMessage({ ...node, ...rest })) });
}

/** `undefined`: the newest. */
export async function getUpgrade(tx: Tx, id: number | undefined): Promise<UpgradeRow | undefined> {
  const [row] = await tx
    .select()
    .from(upgrades)
    .where(id === undefined ? undefined : eq(upgrades.id, id))
    .orderBy(desc(upgrades.id))
    .limit(1);
  return row;
}

/** The row, locked until the transaction ends: only who has it moves the upgrade or its nodes. */
export async function lockUpgrade(tx: Tx, id: number): Promise<UpgradeRow | undefined> {
  const [row] = await tx.select().from(upgrades).where(eq(upgrades.id, id)).for("update");
  return row;
}

/** The newest, with their nodes. */
export async function listUpgrades(
  tx: Tx,
  limit: number,
): Promise<{ readonly row: UpgradeRow; readonly nodes: readonly UpgradeNodeRow[] }[]> {
  const rows = await tx.select().from(upgrades).orderBy(desc(upgrades.id)).limit(limit);
  if (rows.length === 0) return [];
  const ids = rows.map(({ id }) => id);
  const nodes = await tx
    .select()
    .from(upgradeNodes)
    .where(inArray(upgradeNodes.upgradeId, ids))
    .orderBy(asc(upgradeNodes.group), asc(upgradeNodes.node));
  const byUpgrade = Map.groupBy(nodes, ({ upgradeId }) => upgradeId);
  return rows.map((row) => ({ row, nodes: byUpgrade.get(row.id) ?? [] }));
}

/** By group, then by name. */
export async function upgradeNodesOf(tx: Tx, id: number): Promise<UpgradeNodeRow[]> {
  return await tx
    .select()
    .from(upgradeNodes)
    .where(eq(upgradeNodes.upgradeId, id))
    .orderBy(asc(upgradeNodes.group), asc(upgradeNodes.node));
}

/** Those that a controller has to look at: Running, or with nodes under way though they are paused, stopped or cancelled. */
export async function upgradesAtWork(tx: Tx): Promise<number[]> {
  const rows = await tx.execute<{ id: string }>(sql`
    select id::text as id from upgrades where phase = 'Running'
    union
    select distinct upgrade_id::text from upgrade_nodes where phase in ('Ordered', 'Fetching', 'Starting')`);
  return rows.map(({ id }) => Number(id)).toSorted((a, b) => a - b);
}

/** Of a row that this transaction has locked. */
export async function updateUpgrade(
  tx: Tx,
  row: UpgradeRow,
  patch: Partial<Omit<UpgradeRow, "id" | "spec" | "startedAt">>,
): Promise<UpgradeRow> {
  const [updated] = await tx.update(upgrades).set(patch).where(eq(upgrades.id, row.id)).returning();
  return updated!;
}

export interface UpgradeNodeUpdate {
  readonly node: string;
  readonly phase: string;
  readonly message: string;
  readonly orderedAt?: Date;
  readonly finishedAt?: Date;
}

/** Of an upgrade that this transaction has locked. What has ended stays as it ended. */
export async function updateUpgradeNodes(tx: Tx, id: number, updates: readonly UpgradeNodeUpdate[]): Promise<void> {
  if (updates.length === 0) return;
  await tx.execute(sql`
    update upgrade_nodes n set phase = v.phase, message = v.message,
      ordered_at = coalesce(v."orderedAt", n.ordered_at), finished_at = v."finishedAt"
    from jsonb_to_recordset(${JSON.stringify(updates)}::jsonb) as v(
      node text, phase text, message text, "orderedAt" timestamptz, "finishedAt" timestamptz)
    where n.upgrade_id = ${id} and n.node = v.node and n.phase in ('Waiting', 'Ordered', 'Fetching', 'Starting')`);
}
