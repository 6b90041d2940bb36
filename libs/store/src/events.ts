/** What happened. Written many at a time; read as a list or as a feed. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { EventSchema, type Event } from "@berth/proto";
import { and, asc, desc, eq, getTableColumns, gt, lte, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { EVENTS_CHANNEL } from "./feed/record.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { int64, map, set, timestamp, type Unwritten } from "./proto-json.ts";
import { events } from "./schema/index.ts";

/** What a node wrote of it, byte for byte, is read by {@link journalEvents} alone. */
export type EventRow = Omit<typeof events.$inferSelect, "entry" | "entryHash">;
const { entry: _entry, entryHash: _entryHash, ...ROW } = getTableColumns(events);

export interface NewEvent {
  /** Absent or empty: the cluster's own. */
  readonly namespace?: string;
  /** Default: now. */
  readonly time?: Date;
  readonly topic: string;
  readonly kind:
    | "Workload"
    | "Task"
    | "Campaign"
    | "Node"
    | "Namespace"
    | "CronJob"
    | "RegistryMirror"
    | "Webhook"
    | "Image"
    | "Store"
    | "Fleet";
  readonly name: string;
  readonly uid?: string;
  readonly node?: string;
  readonly severity?: "Normal" | "Warning";
  readonly reason?: string;
  readonly message?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly journalEpoch?: string;
  readonly journalSeq?: number;
  /** Of a chained entry: its bytes and hash. */
  readonly entry?: Uint8Array;
  readonly entryHash?: Uint8Array;
}

export function eventMessage(row: EventRow): Event {
  return create(EventSchema, {
    id: String(row.id),
    namespace: row.namespace,
    time: timestampFromDate(row.time),
    topic: row.topic,
    kind: row.kind,
    name: row.name,
    uid: row.uid,
    node: row.node,
    severity: row.severity,
    reason: row.reason,
    message: row.message,
    attributes: row.attributes,
    journalEpoch: row.journalEpoch ?? "",
    journalSeq: BigInt(row.journalSeq ?? 0),
  });
}

/** The JSON form of {@link eventMessage}. */
export function eventJson(row: EventRow) {
  return {
    id: String(row.id),
    namespace: set(row.namespace),
    time: timestamp(row.time),
    topic: set(row.topic),
    kind: set(row.kind),
    name: set(row.name),
    uid: set(row.uid),
    node: set(row.node),
    severity: set(row.severity),
    reason: set(row.reason),
    message: set(row.message),
    attributes: map(row.attributes),
    journalEpoch: set(row.journalEpoch),
    journalSeq: int64(row.journalSeq),
  } satisfies Unwritten;
}

const ROWS_PER_INSERT = 2_500;

/**
 * Entries of journals are stored by whoever has locked their watermark and moves it in the same transaction (`setStored`); nothing
 * else keeps one from being stored twice (D4). Returns how many there were.
 */
export async function insertEvents(tx: Tx, rows: readonly NewEvent[]): Promise<number> {
  let count = 0;
  for (let from = 0; from < rows.length; from += ROWS_PER_INSERT) {
    const batch = rows.slice(from, from + ROWS_PER_INSERT);
    const [written] = await tx.execute<{ count: number }>(sql`
      with written as (
      insert into events (namespace, time, topic, kind, name, uid, node, severity, reason, message, attributes,
        journal_epoch, journal_seq, entry, entry_hash)
      select coalesce(namespace, ''), coalesce(time, now()), topic, kind, name, coalesce(uid, ''), coalesce(node, ''),
        coalesce(severity, 'Normal'), coalesce(reason, ''), coalesce(message, ''), coalesce(attributes, '{}'),
        "journalEpoch", "journalSeq", decode(entry, 'base64'), decode("entryHash", 'base64')
      from jsonb_to_recordset(${storable(batch)}::jsonb) as r(
        namespace text, time timestamptz, topic text, kind text, name text, uid text, node text, severity text,
        reason text, message text, attributes jsonb, "journalEpoch" text, "journalSeq" bigint, entry text, "entryHash" text)
      returning 1)
      select count(*)::int as count, pg_notify(${EVENTS_CHANNEL}, '') from written`);
    count += written!.count;
  }
  return count;
}

/** In the order of their ids. `asOf`: those that were stored by then. */
export async function listEvents(
  tx: Tx,
  query: PageRequest & { readonly namespace?: string; readonly asOf?: Date },
): Promise<Page<EventRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 1);
  const rows = await tx
    .select(ROW)
    .from(events)
    .where(
      and(
        query.namespace === undefined ? undefined : eq(events.namespace, query.namespace),
        after && gt(events.id, Number(after[0])),
        query.asOf && lte(events.storedAt, query.asOf),
      ),
    )
    .orderBy(asc(events.id))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [String(row.id)]);
}

/** Newest first, before an id: for a tail that a filter thins out. */
export async function listEventsBackwards(
  tx: Tx,
  query: { readonly namespace?: string; readonly beforeId?: number; readonly asOf?: Date; readonly limit: number },
): Promise<EventRow[]> {
  return await tx
    .select(ROW)
    .from(events)
    .where(
      and(
        query.namespace === undefined ? undefined : eq(events.namespace, query.namespace),
        query.beforeId === undefined ? undefined : sql`${events.id} < ${query.beforeId}`,
        query.asOf && lte(events.storedAt, query.asOf),
      ),
    )
    .orderBy(desc(events.id))
    .limit(query.limit);
}

/** Postgres stores no NUL in text, and a container's message may hold one. */
function storable(events: readonly NewEvent[]): string {
  const batch = events.map(({ entry, entryHash, ...event }) =>
    entry === undefined ? event : { ...event, entry: base64(entry), entryHash: entryHash && base64(entryHash) },
  );
  const json = JSON.stringify(batch);
  return json.includes("\\u0000") ? JSON.stringify(batch, (_key, value: unknown) => withoutNul(value)) : json;
}

function withoutNul(value: unknown): unknown {
  return typeof value === "string" ? value.replaceAll("\0", "\uFFFD") : value;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
