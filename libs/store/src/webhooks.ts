/**
 * Rows of webhooks: what is to be sent where, and how far that is.
 *
 * Invariant: what a sender writes carries the epoch under which it took the webhook up ({@link takeUpWebhook}); one that was
 * taken over from writes nothing more. Specs and secrets are written under the row's lock and raise the resource version, by
 * which senders see that they have to begin anew; a sender's own writes do not.
 */
import { uuidv7 } from "@berth/base";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import {
  WebhookGapSchema,
  WebhookSchema,
  WebhookSpecSchema,
  WebhookStatusSchema,
  type Webhook,
  type WebhookGap,
  type WebhookSpec,
} from "@berth/proto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { and, asc, eq, isNotNull, or, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { storeTime } from "./time.ts";
import { currentPosition, type Position } from "./feed/position.ts";
import { notify } from "./feed/record.ts";
import { metadataOf, optional, parse, timestampOf } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page } from "./page.ts";
import { webhookDeliveries, webhooks } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";
import type { NamespacedQuery } from "./workloads.ts";

export type WebhookRow = typeof webhooks.$inferSelect;

/** Some webhook has come, gone or changed. */
export const WEBHOOKS_CHANNEL = "berth_webhooks";

const COUNTED = 10_000;

export const webhookSpec = (row: WebhookRow): WebhookSpec => parse(WebhookSpecSchema, row.spec);

export const webhookPosition = ({ xid, eventId }: WebhookRow): Position => ({ xid: BigInt(xid), id: eventId });

/** Without its secrets. */
export function webhookMessage(row: WebhookRow, { behind = 0 }: { readonly behind?: number } = {}): Webhook {
  const spec = webhookSpec(row);
  const status = create(WebhookStatusSchema, {
    phase: row.goneAt !== null ? "Gone" : spec.suspend ? "Suspended" : row.failures > 0 ? "Failing" : "Active",
    ...optional("lastSuccessAt", timestampOf(row.lastSuccessAt)),
    ...optional("lastFailureAt", timestampOf(row.lastFailureAt)),
    lastError: row.lastError,
    ...optional("failingSince", timestampOf(row.failingSince)),
    failures: row.failures,
    ...optional("nextAttemptAt", timestampOf(row.nextAttemptAt)),
    ...optional("pendingSince", timestampOf(row.pendingSince)),
    behind,
    delivered: BigInt(row.delivered),
    givenUp: BigInt(row.givenUp),
    ...optional("gap", gapMessage(row)),
    ...optional("previousSecretUntil", timestampOf(row.previousSecretUntil)),
  });
  return create(WebhookSchema, { metadata: metadataOf(row), spec, status });
}

function gapMessage({ gapReason, gapFrom, gapUntil, gapCount, gapToldAt }: WebhookRow): WebhookGap | undefined {
  if (gapReason === null || gapFrom === null || gapUntil === null) return undefined;
  return create(WebhookGapSchema, {
    reason: gapReason,
    from: timestampFromDate(gapFrom),
    until: timestampFromDate(gapUntil),
    count: BigInt(gapCount),
    ...optional("toldAt", timestampOf(gapToldAt)),
  });
}

const named = (namespace: string, name: string) => and(eq(webhooks.namespace, namespace), eq(webhooks.name, name));

export async function getWebhook(tx: Tx, namespace: string, name: string): Promise<WebhookRow | undefined> {
  const [row] = await tx.select().from(webhooks).where(named(namespace, name));
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockWebhook(tx: Tx, namespace: string, name: string): Promise<WebhookRow | undefined> {
  const [row] = await tx.select().from(webhooks).where(named(namespace, name)).for("update");
  return row;
}

export async function listWebhooks(tx: Tx, query: NamespacedQuery): Promise<Page<WebhookRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 2);
  const rows = await tx
    .select()
    .from(webhooks)
    .where(
      and(
        query.namespace === undefined ? undefined : eq(webhooks.namespace, query.namespace),
        selectorSql(webhooks.labels, query.selector ?? []),
        after && sql`(${webhooks.namespace}, ${webhooks.name}) > (${after[0]}, ${after[1]})`,
      ),
    )
    .orderBy(asc(webhooks.namespace), asc(webhooks.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.namespace, row.name]);
}

/** Those that do not get on: they fail, or answered that nobody is there. */
export function troubledWebhooks(tx: Tx): Promise<WebhookRow[]> {
  return tx
    .select()
    .from(webhooks)
    .where(or(isNotNull(webhooks.failingSince), isNotNull(webhooks.goneAt)))
    .orderBy(asc(webhooks.namespace), asc(webhooks.name))
    .limit(100);
}

/** Events of its namespace that were stored after its place, at most 10,000: those that its spec leaves out are in it. */
export async function countBehind(tx: Tx, { namespace, xid, eventId }: WebhookRow): Promise<number> {
  const [row] = await tx.execute<{ count: number }>(sql`
    select count(*)::int as count from (
      select from events where namespace = ${namespace} and (xid, id) > (${xid}::xid8, ${eventId}::bigint)
      limit ${COUNTED}) later`);
  return row!.count;
}

/** Begins now: what is stored from here on is sent. @throws ALREADY_EXISTS */
export async function insertWebhook(
  tx: Tx,
  webhook: { readonly namespace: string; readonly name: string; readonly labels: Record<string, string> },
  spec: WebhookSpec,
  secret: string,
): Promise<WebhookRow> {
  const { xid } = await currentPosition(tx);
  const begin = { xid: String(xid), eventId: 0, passedUntil: await storeTime(tx) };
  const json = toJson(WebhookSpecSchema, spec) as JsonObject;
  const [row] = await tx
    .insert(webhooks)
    .values({ ...webhook, uid: uuidv7(), spec: json, secret, ...begin })
    .returning();
  await notify(tx, WEBHOOKS_CHANNEL);
  return row!;
}

/** Of a row that this transaction has locked. A new spec raises the generation; whatever it is, it is tried at once. */
export async function updateWebhook(
  tx: Tx,
  row: WebhookRow,
  patch: Partial<Omit<WebhookRow, "spec" | "uid">> & { readonly spec?: WebhookSpec },
): Promise<WebhookRow> {
  const { spec, ...rest } = patch;
  const [updated] = await tx
    .update(webhooks)
    .set({
      goneAt: null,
      nextAttemptAt: null,
      ...rest,
      // Another batch may be made of the same events: under another id.
      ...(spec && { spec: toJson(WebhookSpecSchema, spec) as JsonObject, batchXid: null, batchEventId: null }),
      generation: row.generation + (spec === undefined ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(webhooks.uid, row.uid))
    .returning();
  await notify(tx, WEBHOOKS_CHANNEL);
  return updated!;
}

export async function removeWebhook(tx: Tx, { uid }: WebhookRow): Promise<void> {
  await tx.delete(webhookDeliveries).where(eq(webhookDeliveries.webhookUid, uid));
  await tx.delete(webhooks).where(eq(webhooks.uid, uid));
  await notify(tx, WEBHOOKS_CHANNEL);
}

/** Of a namespace that goes away. */
export async function removeWebhooksOf(tx: Tx, namespace: string): Promise<void> {
  const rows = await tx.select().from(webhooks).where(eq(webhooks.namespace, namespace)).for("update");
  for (const row of rows) await removeWebhook(tx, row);
}
