/**
 * What was: objects and events as they were known at a time.
 *
 * Every change of an object leaves its whole new state in `changes`, in its own transaction. What an object was at T is its last
 * change up to T; for one that has none among those that are kept, what `history_base` carries of it. Before the horizon (retention
 * has dropped the changes, or history had not begun) nothing is answered, rather than something wrong.
 *
 * The time of a change is when it was written, under the lock of its object; it shows once its transaction has ended. So what is
 * said of T is final as soon as every transaction that was open at T has ended: a moment later.
 */
import { StatusError } from "@berth/base";
import { toJson, type DescMessage, type JsonObject, type MessageShape } from "@bufbuild/protobuf";
import type { Requirement } from "@berth/model";
import { and, sql, type SQL } from "drizzle-orm";
import { CampaignSchema, CronJobSchema, NamespaceSchema, NodeSchema, TaskSchema, WorkloadSchema } from "@berth/proto";
import { campaignMessage, listCampaigns } from "./campaigns.ts";
import { cronJobMessage, listCronJobs } from "./cron-jobs.ts";
import type { Tx } from "./database.ts";
import type { FeedName } from "./feed/position.ts";
import type { ResourceKind } from "./feed/record.ts";
import { listNamespaces, namespaceMessage } from "./namespaces.ts";
import { listNodes, nodeMessages } from "./nodes.ts";
import type { Store } from "./open.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { selectorSql } from "./selector-sql.ts";
import { taskMessage } from "./task-message.ts";
import { listTasks } from "./tasks.ts";
import { listWorkloads, workloadMessage } from "./workloads.ts";

export interface PastQuery extends PageRequest {
  readonly kind: ResourceKind;
  readonly at: Date;
  readonly namespace?: string;
  readonly name?: string;
  /** A condition on `object`, the resource as JSON. */
  readonly where?: SQL | undefined;
}

export interface PastObject {
  readonly namespace: string;
  readonly name: string;
  readonly object: JsonObject;
}

/**
 * Objects as they were, in the order of (namespace, name). In {@link Store.snapshot}.
 * @throws OUT_OF_RANGE `HISTORY_EXPIRED`; INVALID_ARGUMENT for a time that has not come
 */
export async function objectsAt(tx: Tx, query: PastQuery): Promise<Page<PastObject>> {
  // Before anything is read: no partition goes while this transaction lasts.
  await tx.execute(sql`lock table changes in access share mode`);
  await checkWithinHistory(tx, "changes", query.at);
  const limit = pageLimit(query);
  const found: PastObject[] = [];
  let after = pageKey(query, 2);
  // Those that were deleted by then, or do not match, are left out of what is read, so one reading may not fill the page.
  for (let more = true; more && found.length <= limit;) {
    const states = await lastStates(tx, query, after, limit + 1);
    found.push(...states.filter(({ shown }) => shown));
    const last = states.at(-1);
    more = last !== undefined && states.length === limit + 1;
    if (last !== undefined) after = [last.namespace, last.name];
  }
  const page = pageOf(found, limit, (row) => [row.namespace, row.name]);
  return { ...page, items: page.items.map(({ namespace, name, object }) => ({ namespace, name, object })) };
}

/** The next names and what was last known of each, whether it is to be shown or not. Each half is read in the order of an index. */
async function lastStates(
  tx: Tx,
  query: PastQuery,
  after: readonly string[] | undefined,
  limit: number,
): Promise<(PastObject & { readonly shown: boolean })[]> {
  const scope = and(
    sql`kind = ${query.kind}`,
    query.namespace === undefined ? undefined : sql`namespace = ${query.namespace}`,
    query.name === undefined ? undefined : sql`name = ${query.name}`,
    after && sql`(namespace, name) > (${after[0]}, ${after[1]})`,
  )!;
  const at = sql`${query.at.toISOString()}::timestamptz`;
  const rows = await tx.execute<{ namespace: string; name: string; object: JsonObject; shown: boolean }>(sql`
    select distinct on (namespace, name) namespace, name, object,
      op <> 'DELETED' and coalesce(${query.where ?? sql`true`}, false) as shown
    from (
      (select distinct on (namespace, name) namespace, name, id, op, object
        from changes where ${scope} and created_at <= ${at} order by namespace, name, id desc limit ${limit})
      union all
      (select namespace, name, id, 'ADDED', object
        from history_base where ${scope} order by namespace, name limit ${limit})) known
    order by namespace, name, id desc limit ${limit}`);
  return [...rows];
}

/** Conditions of a list on {@link PastQuery.where}. */
export function pastScope(scope: {
  readonly selector?: readonly Requirement[] | undefined;
  readonly workload?: string | undefined;
  readonly node?: string | undefined;
}): SQL | undefined {
  return and(
    scope.selector && selectorSql(sql`coalesce(object #> '{metadata,labels}', '{}')`, scope.selector),
    scope.workload === undefined ? undefined : sql`object #>> '{spec,workload}' = ${scope.workload}`,
    scope.node === undefined ? undefined : sql`object #>> '{spec,node}' = ${scope.node}`,
  );
}

/** @throws OUT_OF_RANGE `HISTORY_EXPIRED`, UNAVAILABLE `HISTORY_NOT_BEGUN`, INVALID_ARGUMENT */
export async function checkWithinHistory(tx: Tx, feed: FeedName, at: Date): Promise<void> {
  const [row] = await tx.execute<{ future: boolean; begun: boolean; horizon: string | null }>(sql`
    select ${at.toISOString()}::timestamptz > clock_timestamp() + interval '1 second' as future,
      m.history_since is not null as begun,
      case ${feed} when 'events' then f.until else greatest(m.history_since, f.until) end::text as horizon
    from store_meta m left join feed_marks f on f.feed = ${feed}`);
  if (row!.future) {
    const description = `${at.toISOString()} has not come yet`;
    throw StatusError.invalid([{ field: "asOf", description }]);
  }
  if (feed === "changes" && !row!.begun) {
    const message = "history has not begun in this store: a controller lays its base when it starts; try again";
    throw new StatusError("UNAVAILABLE", message, { reason: "HISTORY_NOT_BEGUN", retryAfterMs: 1_000 });
  }
  if (row!.horizon === null || at >= new Date(row!.horizon)) return;
  const kept = new Date(row!.horizon).toISOString();
  const setting = feed === "events" ? "retention.eventsMs" : "retention.historyMs";
  throw new StatusError(
    "OUT_OF_RANGE",
    `${at.toISOString()} is before ${kept}, from when on ${feed === "events" ? "events are" : "history is"} kept; ` +
      `ask for a later time (how long is ${setting} of the controller's configuration)`,
    { reason: "HISTORY_EXPIRED", details: { kept } },
  );
}

/**
 * Lays the base of history, once in a store's life: what is there, for those objects whose changes were forgotten before they were
 * kept as history. Idempotent, and right beside writers: what changes meanwhile leaves changes, which go before the base.
 */
export async function beginHistory(store: Pick<Store, "db" | "transaction">): Promise<void> {
  const [meta] = await store.db.execute<{ begun: boolean }>(
    sql`select history_since is not null as begun from store_meta`,
  );
  if (meta!.begun) return;
  await layAll(store, "Namespace", NamespaceSchema, listNamespaces, (_tx, rows) => rows.map((row) => namespaceMessage(row))); // prettier-ignore
  await layAll(store, "Node", NodeSchema, listNodes, nodeMessages);
  await layAll(store, "Workload", WorkloadSchema, listWorkloads, (_tx, rows) => rows.map(workloadMessage));
  await layAll(store, "Task", TaskSchema, listTasks, (_tx, rows) => rows.map(taskMessage));
  await layAll(store, "Campaign", CampaignSchema, listCampaigns, (_tx, rows) => rows.map(campaignMessage));
  await layAll(store, "CronJob", CronJobSchema, listCronJobs, (_tx, rows) => rows.map(cronJobMessage));
  await store.db.execute(sql`update store_meta set history_since = clock_timestamp() where history_since is null`);
}

async function layAll<Row extends { readonly name: string; readonly namespace?: string }, Desc extends DescMessage>(
  store: Pick<Store, "db" | "transaction">,
  kind: ResourceKind,
  schema: Desc,
  list: (tx: Tx, page: PageRequest) => Promise<Page<Row>>,
  messages: (tx: Tx, rows: readonly Row[]) => MessageShape<Desc>[] | Promise<MessageShape<Desc>[]>,
): Promise<void> {
  for (let pageToken = "", more = true; more; more = pageToken !== "") {
    const page = await list(store.db, { pageSize: 1_000, pageToken });
    const shown = await messages(store.db, page.items);
    const rows = page.items.map(({ namespace = "", name }, index) => ({
      namespace,
      name,
      object: toJson(schema, shown[index]!),
    }));
    await store.transaction((tx) =>
      tx.execute(sql`
        insert into history_base (kind, namespace, name, id, object, changed_at)
        select ${kind}, namespace, name, 0, object, now()
        from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(namespace text, name text, object jsonb)
        on conflict do nothing`),
    );
    pageToken = page.nextPageToken;
  }
}
