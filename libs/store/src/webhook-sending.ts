/** What the senders of webhooks read and write: their place, what became of each request, and what their events are about. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { WebhookDeliverySchema, type WebhookDelivery } from "@berth/proto";
import { and, desc, eq, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import type { Position } from "./feed/position.ts";
import { webhookDeliveries, webhooks } from "./schema/index.ts";
import { webhookPosition, type WebhookRow } from "./webhooks.ts";

export type WebhookDeliveryRow = typeof webhookDeliveries.$inferSelect;
export type NewWebhookDelivery = typeof webhookDeliveries.$inferInsert;

const KEPT_DELIVERIES = 100;
/** What a node says a uid is may be anything. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** `version` changes when a sender has to begin anew. */
export async function webhookRefs(tx: Tx): Promise<{ readonly uid: string; readonly version: number }[]> {
  return tx.select({ uid: webhooks.uid, version: webhooks.resourceVersion }).from(webhooks);
}

/** Whoever had it writes nothing more of it. Undefined when it is gone. */
export async function takeUpWebhook(tx: Tx, uid: string): Promise<WebhookRow | undefined> {
  const [row] = await tx
    .update(webhooks)
    .set({ ownerEpoch: sql`${webhooks.ownerEpoch} + 1` })
    .where(eq(webhooks.uid, uid))
    .returning();
  return row;
}

export type WebhookProgress = Partial<
  Pick<
    WebhookRow,
    | "goneAt"
    | "lastSuccessAt"
    | "lastFailureAt"
    | "lastError"
    | "failingSince"
    | "failures"
    | "nextAttemptAt"
    | "pendingSince"
    | "passedUntil"
    | "delivered"
    | "givenUp"
    | "gapReason"
    | "gapFrom"
    | "gapUntil"
    | "gapCount"
    | "gapToldAt"
  >
> & { readonly position?: Position; readonly batchEnd?: Position };

/** Undefined when it is gone or somebody else has it: nothing was written. */
export async function progressWebhook(
  tx: Tx,
  { uid, ownerEpoch, resourceVersion }: WebhookRow,
  { position, batchEnd, ...patch }: WebhookProgress,
): Promise<WebhookRow | undefined> {
  const [row] = await tx
    .update(webhooks)
    .set({
      ...patch,
      ...(position && { xid: String(position.xid), eventId: position.id }),
      ...(batchEnd && { batchXid: String(batchEnd.xid), batchEventId: batchEnd.id }),
    })
    .where(
      and(
        eq(webhooks.uid, uid),
        eq(webhooks.ownerEpoch, ownerEpoch),
        // What was sent by an older spec has been sent; what it was told to wait for is no longer so.
        position === undefined ? eq(webhooks.resourceVersion, resourceVersion) : undefined,
      ),
    )
    .returning();
  return row;
}

/** What followed its place and is gone by retention: up to where, and up to when it was stored. */
export async function goneBefore(
  tx: Tx,
  row: WebhookRow,
): Promise<{ readonly position: Position; readonly until: Date } | undefined> {
  const { xid, id } = webhookPosition(row);
  const [mark] = await tx.execute<{ xid: string; id: string; until: string | null }>(sql`
    select xid::text as xid, id::text as id, until::text as until from feed_marks
    where feed = 'events' and (xid, id) > (${String(xid)}::xid8, ${id}::bigint)`);
  if (mark === undefined) return undefined;
  const until = mark.until === null ? row.passedUntil : new Date(mark.until);
  return { position: { xid: BigInt(mark.xid), id: Number(mark.id) }, until };
}

/** The newest are kept. */
export async function recordDelivery(tx: Tx, delivery: NewWebhookDelivery): Promise<void> {
  await tx.insert(webhookDeliveries).values(delivery);
  await tx.execute(sql`
    delete from webhook_deliveries where webhook_uid = ${delivery.webhookUid} and id <= (
      select id from webhook_deliveries where webhook_uid = ${delivery.webhookUid}
      order by id desc offset ${KEPT_DELIVERIES} limit 1)`);
}

export function deliveriesOf(tx: Tx, uid: string): Promise<WebhookDeliveryRow[]> {
  return tx
    .select()
    .from(webhookDeliveries)
    .where(eq(webhookDeliveries.webhookUid, uid))
    .orderBy(desc(webhookDeliveries.id))
    .limit(KEPT_DELIVERIES);
}

export function deliveryMessage(row: Omit<WebhookDeliveryRow, "id" | "webhookUid">): WebhookDelivery {
  const { deliveryId: id, attempt, at, tookMs, events, code, outcome, message } = row;
  const took = { seconds: BigInt(Math.floor(tookMs / 1_000)), nanos: (tookMs % 1_000) * 1_000_000 };
  return create(WebhookDeliverySchema, {
    id,
    attempt,
    at: timestampFromDate(at),
    took,
    events,
    code,
    outcome,
    message,
  });
}

export interface ObjectFacts {
  readonly labels: Readonly<Record<string, string>>;
  /** Of a task: whose it is. */
  readonly workload: string;
}

/** What the objects of a namespace are, or were when they were last changed, by their uids. One that nothing is kept of is absent. */
export async function objectFacts(
  tx: Tx,
  namespace: string,
  objects: readonly { readonly kind: string; readonly name: string; readonly uid: string }[],
): Promise<Map<string, ObjectFacts>> {
  const asked = JSON.stringify(objects.filter(({ uid }) => UUID.test(uid)));
  const rows = await tx.execute<{ uid: string; labels: Record<string, string>; workload: string }>(sql`
    with asked as (select distinct kind, name, uid from jsonb_to_recordset(${asked}::jsonb) as o(kind text, name text, uid uuid))
    select t.uid::text as uid, t.labels, t.workload from asked a join tasks t on a.kind = 'Task' and t.uid = a.uid
    union all
    select w.uid::text, w.labels, w.name from asked a join workloads w on a.kind = 'Workload' and w.uid = a.uid
    union all
    select c.uid::text, c.labels, '' from asked a join cron_jobs c on a.kind = 'CronJob' and c.uid = a.uid
    union all
    select c.uid::text, c.labels, '' from asked a join campaigns c on a.kind = 'Campaign' and c.uid = a.uid
    union all
    select a.uid::text, coalesce(c.object -> 'metadata' -> 'labels', '{}'::jsonb),
      case a.kind when 'Workload' then a.name else coalesce(c.object -> 'spec' ->> 'workload', '') end
    from asked a cross join lateral (
      select object from changes where kind = a.kind and namespace = ${namespace} and name = a.name and uid = a.uid::text
      order by id desc limit 1) c
    where not exists (select from tasks t where t.uid = a.uid)
      and not exists (select from workloads w where w.uid = a.uid)`);
  return new Map(rows.map(({ uid, labels, workload }) => [uid, { labels, workload }]));
}
