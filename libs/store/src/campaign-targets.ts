/** One image on one node, for one generation of a campaign. */
import { create } from "@bufbuild/protobuf";
import { CampaignTargetSchema, type CampaignTarget } from "@berth/proto";
import { and, asc, eq, sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { notify, WORK_CHANNEL } from "./feed/record.ts";
import { optional, timestampOf } from "./messages.ts";
import { campaignTargets, nodes } from "./schema/index.ts";

export type TargetRow = typeof campaignTargets.$inferSelect;
export type NewTarget = Pick<
  TargetRow,
  "id" | "campaignUid" | "generation" | "namespace" | "node" | "image" | "snapshotter"
>;

export function targetMessage(row: TargetRow, nodeSilent: boolean): CampaignTarget {
  return create(CampaignTargetSchema, {
    node: row.node,
    image: row.image,
    phase: row.phase,
    attempt: row.attempt,
    message: row.message,
    imageDigest: row.imageDigest,
    ...optional("finishedAt", timestampOf(row.finishedAt)),
    certainty: nodeSilent ? "unreachable" : "observed",
  });
}

/** Every target of a campaign as messages, in the order of node and image. */
export async function listTargets(tx: Tx, campaignUid: string): Promise<CampaignTarget[]> {
  const rows = await tx
    .select({ target: campaignTargets, nodePhase: nodes.phase })
    .from(campaignTargets)
    .leftJoin(nodes, eq(nodes.name, campaignTargets.node))
    .where(eq(campaignTargets.campaignUid, campaignUid))
    .orderBy(asc(campaignTargets.node), asc(campaignTargets.image));
  return rows.map((row) => targetMessage(row.target, row.nodePhase === "Unknown"));
}

export function lockTargets(tx: Tx, where: SQL): Promise<TargetRow[]> {
  return tx.select().from(campaignTargets).where(where).orderBy(asc(campaignTargets.id)).for("update");
}

export function targetsOf(campaignUid: string): SQL {
  return eq(campaignTargets.campaignUid, campaignUid);
}

/** Targets that an image entry of a journal may speak of. */
export function targetsAt(places: readonly { readonly campaignUid: string; readonly node: string }[]): SQL {
  return sql`(${campaignTargets.campaignUid}, ${campaignTargets.node}) in (
    select "campaignUid", node from jsonb_to_recordset(${JSON.stringify(places)}::jsonb) as r("campaignUid" uuid, node text))`;
}

/** Adds targets; a place that has one keeps it. */
export async function insertTargets(tx: Tx, rows: readonly NewTarget[]): Promise<number> {
  if (rows.length === 0) return 0;
  const done = await tx.execute(sql`
    insert into campaign_targets (id, campaign_uid, generation, namespace, node, image, snapshotter)
    select id, "campaignUid", generation, namespace, node, image, snapshotter
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(
      id uuid, "campaignUid" uuid, generation bigint, namespace text, node text, image text, snapshotter text)
    on conflict do nothing`);
  return done.count;
}

export interface TargetUpdate {
  readonly before: TargetRow;
  readonly patch: Partial<Omit<TargetRow, "id" | "campaignUid" | "node" | "image" | "namespace">>;
}

/** Writes many targets in one statement. All rows must be locked by this transaction. */
export async function updateTargets(tx: Tx, updates: readonly TargetUpdate[]): Promise<TargetRow[]> {
  if (updates.length === 0) return [];
  const rows = updates.map(({ before, patch }) => ({ ...before, ...patch }));
  await tx.execute(sql`
    update campaign_targets t set
      generation = v.generation, snapshotter = v.snapshotter, phase = v.phase, attempt = v.attempt, message = v.message,
      announced_generation = v."announcedGeneration", announced_attempt = v."announcedAttempt",
      image_digest = v."imageDigest", next_attempt_at = v."nextAttemptAt", finished_at = v."finishedAt"
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as v(
      id uuid, generation bigint, snapshotter text, phase text, attempt int, message text, "imageDigest" text,
      "announcedGeneration" bigint, "announcedAttempt" int,
      "nextAttemptAt" timestamptz, "finishedAt" timestamptz)
    where t.id = v.id`);
  await wakeCampaigns(tx, rows);
  return rows;
}

/** Has the campaigns' loop look. */
async function wakeCampaigns(tx: Tx, rows: readonly TargetRow[]): Promise<void> {
  const wakes = new Set(rows.map((row) => `c/${row.namespace}/${row.campaignUid}`));
  for (const wake of wakes) await notify(tx, WORK_CHANNEL, wake);
}

export async function deleteTargets(tx: Tx, rows: readonly TargetRow[]): Promise<void> {
  if (rows.length === 0) return;
  const ids = JSON.stringify(rows.map((row) => row.id));
  await tx
    .delete(campaignTargets)
    .where(and(sql`${campaignTargets.id} in (select value::uuid from jsonb_array_elements_text(${ids}::jsonb))`));
}
