/** Rows of campaigns. Their targets are in `campaign-targets.ts`. */
import { uuidv7 } from "@berth/base";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import {
  CampaignSchema,
  CampaignSpecSchema,
  CampaignStatusSchema,
  type Campaign,
  type CampaignSpec,
  type CampaignStatus,
} from "@berth/proto";
import { and, asc, eq, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { metadataOf, optional, parse } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page } from "./page.ts";
import { campaigns } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";
import type { NamespacedQuery } from "./workloads.ts";

export type CampaignRow = typeof campaigns.$inferSelect;

export function campaignMessage(row: CampaignRow): Campaign {
  return create(CampaignSchema, {
    metadata: metadataOf(row),
    spec: campaignSpec(row),
    status: campaignStatus(row),
  });
}

export const campaignSpec = (row: CampaignRow): CampaignSpec => parse(CampaignSpecSchema, row.spec);
export const campaignStatus = (row: CampaignRow): CampaignStatus => parse(CampaignStatusSchema, row.status);

export async function getCampaign(tx: Tx, namespace: string, name: string): Promise<CampaignRow | undefined> {
  const [row] = await tx
    .select()
    .from(campaigns)
    .where(and(eq(campaigns.namespace, namespace), eq(campaigns.name, name)));
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockCampaign(tx: Tx, namespace: string, name: string): Promise<CampaignRow | undefined> {
  const [row] = await tx
    .select()
    .from(campaigns)
    .where(and(eq(campaigns.namespace, namespace), eq(campaigns.name, name)))
    .for("update");
  return row;
}

export async function lockCampaignByUid(tx: Tx, uid: string): Promise<CampaignRow | undefined> {
  const [row] = await tx.select().from(campaigns).where(eq(campaigns.uid, uid)).for("update");
  return row;
}

export async function listCampaigns(tx: Tx, query: NamespacedQuery): Promise<Page<CampaignRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 2);
  const rows = await tx
    .select()
    .from(campaigns)
    .where(
      and(
        query.namespace === undefined ? undefined : eq(campaigns.namespace, query.namespace),
        selectorSql(campaigns.labels, query.selector ?? []),
        after && sql`(${campaigns.namespace}, ${campaigns.name}) > (${after[0]}, ${after[1]})`,
      ),
    )
    .orderBy(asc(campaigns.namespace), asc(campaigns.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.namespace, row.name]);
}

/** @throws ALREADY_EXISTS */
export async function insertCampaign(
  tx: Tx,
  campaign: {
    readonly namespace: string;
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly spec: CampaignSpec;
  },
): Promise<CampaignRow> {
  const spec = toJson(CampaignSpecSchema, campaign.spec) as JsonObject;
  const [row] = await tx
    .insert(campaigns)
    .values({ ...campaign, uid: uuidv7(), spec })
    .returning();
  await recordCampaign(tx, row!, "ADDED");
  return row!;
}

/** Of a row that this transaction has locked. A new spec raises the generation: the campaign begins again. */
export async function updateCampaign(
  tx: Tx,
  row: CampaignRow,
  patch: {
    readonly labels?: Record<string, string>;
    readonly spec?: CampaignSpec;
    readonly status?: CampaignStatus;
    readonly phase?: string;
    readonly observedGeneration?: number;
    readonly startedAt?: Date | null;
    readonly finishedAt?: Date | null;
    readonly deletedAt?: Date;
  },
): Promise<CampaignRow> {
  const { spec, status, ...rest } = patch;
  const [updated] = await tx
    .update(campaigns)
    .set({
      ...rest,
      ...optional("spec", spec && (toJson(CampaignSpecSchema, spec) as JsonObject)),
      ...optional("status", status && (toJson(CampaignStatusSchema, status) as JsonObject)),
      generation: row.generation + (spec === undefined ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(campaigns.uid, row.uid))
    .returning();
  await recordCampaign(tx, updated!, "MODIFIED");
  return updated!;
}

/** The last step: its targets are gone. */
export async function removeCampaign(tx: Tx, row: CampaignRow): Promise<void> {
  await tx.delete(campaigns).where(eq(campaigns.uid, row.uid));
  await recordCampaign(tx, row, "DELETED");
}

async function recordCampaign(tx: Tx, row: CampaignRow, op: ChangeOp): Promise<void> {
  const object = toJson(CampaignSchema, campaignMessage(row)) as JsonObject;
  const { namespace, name, uid } = row;
  await recordChanges(tx, [{ kind: "Campaign", namespace, name, uid, op, object }]);
}
