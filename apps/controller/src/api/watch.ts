/**
 * Watches of resources over the store's change feed.
 *
 * Without a cursor a watch begins with what is there (ADDED, without cursors: half of a list is no place to go on from), then
 * SNAPSHOT_END, whose cursor resumes. Changes that the snapshot shows already are left out, also after a resumption: the cursor
 * knows them (the store's Mark); so is an older state that comes after a newer one. Where a filter is given, an object that comes to match is ADDED and one that ceases to match
 * is DELETED, as it looks then.
 */
import { create, fromJson, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { throwIfAborted } from "@berth/base";
import { WatchEventSchema, type Metadata, type WatchEvent } from "@berth/proto";
import {
  advanceMark,
  currentMark,
  formatMark,
  getStoreMeta,
  hasSeen,
  parseMark,
  type Change,
  type Feed,
  type Mark,
  type ResourceKind,
  type Store,
  type Tx,
} from "@berth/store";

export interface WatchDeps {
  readonly store: Store;
  readonly changes: Feed<Change>;
}

export interface WatchQuery<Desc extends DescMessage> {
  readonly kind: ResourceKind;
  readonly schema: Desc;
  readonly cursor: string;
  /** Absent: all namespaces, or none. */
  readonly namespace?: string;
  /** Everything that is there and matches, in the transaction's snapshot. */
  list(tx: Tx): Promise<MessageShape<Desc>[]>;
  /** Absent: everything in the namespace. */
  readonly matches?: (resource: MessageShape<Desc>) => boolean;
}

export interface Watched<T> {
  readonly event: WatchEvent;
  /** Absent in SNAPSHOT_END. */
  readonly resource?: T;
}

/** Never ends by itself. @throws OUT_OF_RANGE `CURSOR_EXPIRED`; what the signal was fired with */
export async function* watchResources<Desc extends DescMessage>(
  deps: WatchDeps,
  query: WatchQuery<Desc>,
  signal: AbortSignal,
): AsyncGenerator<Watched<MessageShape<Desc>>> {
  const { storeEpoch } = await getStoreMeta(deps.store.db);
  /** Whether each object matched the filter when this watch last saw it. */
  const matched = new Map<string, boolean>();
  let mark: Mark;
  if (query.cursor === "") {
    const snapshot = await takeSnapshot(deps.store, query);
    mark = snapshot.mark;
    for (const resource of snapshot.resources) {
      if (query.matches !== undefined) matched.set(uidOf(resource), true);
      yield { event: watchEvent("ADDED", ""), resource };
    }
    yield { event: watchEvent("SNAPSHOT_END", formatMark(storeEpoch, mark)) };
  } else {
    mark = await parseMark(deps.store.db, "changes", query.cursor);
  }
  for await (const batch of deps.changes.follow(mark.position, signal)) {
    for (const change of batch) {
      mark = advanceMark(mark, change.position);
      if (change.kind !== query.kind || change.superseded || hasSeen(mark, change.position.xid)) continue;
      if (query.namespace !== undefined && change.namespace !== query.namespace) continue;
      const resource = resourceOf(query.schema, change);
      const type = typeOf(change, resource, query, matched);
      if (type !== undefined) yield { event: watchEvent(type, formatMark(storeEpoch, mark)), resource };
    }
  }
  throwIfAborted(signal);
}

export function watchEvent(type: "ADDED" | "MODIFIED" | "DELETED" | "SNAPSHOT_END", cursor: string): WatchEvent {
  return create(WatchEventSchema, { type, cursor });
}

/** How a change is to be shown; undefined: not at all. */
function typeOf<Desc extends DescMessage>(
  { op, uid }: Change,
  resource: MessageShape<Desc>,
  { matches, cursor }: WatchQuery<Desc>,
  matched: Map<string, boolean>,
): Change["op"] | undefined {
  if (matches === undefined) return op;
  const before = matched.get(uid);
  const now = matches(resource);
  if (op === "DELETED") {
    matched.delete(uid);
    return now || before === true ? "DELETED" : undefined;
  }
  matched.set(uid, now);
  // What a resumed watch has shown before is not known: it says MODIFIED or DELETED once too often rather than not at all.
  const known = before !== undefined || cursor === "";
  if (now) return known && before !== true ? "ADDED" : op;
  return before === true || (!known && op === "MODIFIED") ? "DELETED" : undefined;
}

async function takeSnapshot<Desc extends DescMessage>(
  store: Store,
  query: WatchQuery<Desc>,
): Promise<{ readonly mark: Mark; readonly resources: readonly MessageShape<Desc>[] }> {
  return await store.snapshot(async (tx) => ({ mark: await currentMark(tx), resources: await query.list(tx) }));
}

function uidOf(resource: unknown): string {
  return (resource as { readonly metadata?: Metadata }).metadata!.uid;
}

const parsed = new WeakMap<Change, unknown>();

/** Many watches read the same change: it is parsed once. Nobody alters what they are given. */
function resourceOf<Desc extends DescMessage>(schema: Desc, change: Change): MessageShape<Desc> {
  let resource = parsed.get(change) as MessageShape<Desc> | undefined;
  if (resource === undefined) {
    resource = fromJson(schema, change.object, { ignoreUnknownFields: true });
    parsed.set(change, resource);
  }
  return resource;
}
