/**
 * EventService: what happened, filtered by containerd's grammar.
 *
 * Filters are applied here, not in Postgres, so a page may look at many rows to fill itself: it looks at `MAX_LOOKED` at
 * most and then gives what it has, with the token to go on (a short page is no last page).
 */
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { StatusError, throwIfAborted } from "@berth/base";
import type { Filter } from "@berth/model";
import {
  EventService,
  ListEventsResponseSchema,
  WatchEventsResponseSchema,
  type Event,
  type ListEventsRequest,
  type ListEventsResponse,
  type WatchEventsRequest,
  type WatchEventsResponse,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  advanceMark,
  checkWithinHistory,
  currentMark,
  eventMessage,
  formatMark,
  getStoreMeta,
  hasSeen,
  listEvents,
  listEventsBackwards,
  pageTokenOf,
  parseMark,
  type Feed,
  type FeedEvent,
  type Store,
  type Tx,
} from "@berth/store";
import { matches, parseFilters } from "./event-filters.ts";
import { listPage } from "./list.ts";
import { namespaceScope } from "./scope.ts";
import { watchEvent } from "./watch.ts";

export interface EventDeps {
  readonly store: Store;
  readonly events: Feed<FeedEvent>;
}

const DEFAULT_PAGE = 200;
const MAX_LOOKED = 10_000;
const STEP = 1_000;

export function eventService(deps: EventDeps): Implementation {
  return implement(EventService, {
    listEvents: (request) => list(deps.store, request),
    watchEvents: (request, { signal }) => watch(deps, request, signal),
  });
}

async function list(store: Store, request: ListEventsRequest): Promise<ListEventsResponse> {
  const filters = parseFilters(request.filters, "filters");
  const scope = namespaceScope(request.namespace);
  if (request.tail > 0 && request.pageToken !== "") {
    throw StatusError.invalid([
      { field: "tail", description: "cannot be given with pageToken; leave one of them out" },
    ]);
  }
  const past: Past = request.asOf === undefined ? scope : { ...scope, asOf: timestampDate(request.asOf) };
  const { items, nextPageToken, cursor } = await listPage(store, async (tx) => {
    if (past.asOf !== undefined) await checkWithinHistory(tx, "events", past.asOf);
    return request.tail > 0
      ? { items: await tail(tx, past, filters, request.tail), nextPageToken: "" }
      : await page(tx, past, filters, request);
  });
  return create(ListEventsResponseSchema, {
    items: [...items],
    nextPageToken,
    cursor: past.asOf === undefined ? cursor : "",
  });
}

/** Whose events, and stored by when. */
interface Past {
  readonly namespace?: string;
  readonly asOf?: Date;
}

async function page(
  tx: Tx,
  scope: Past,
  filters: readonly Filter[],
  { pageSize, pageToken }: ListEventsRequest,
): Promise<{ items: Event[]; nextPageToken: string }> {
  const wanted = pageSize || DEFAULT_PAGE;
  const items: Event[] = [];
  let token = pageToken;
  for (let looked = 0; looked < MAX_LOOKED;) {
    const step = await listEvents(tx, { ...scope, pageSize: filters.length === 0 ? wanted : STEP, pageToken: token });
    for (const row of step.items) {
      const event = eventMessage(row);
      if (matches(filters, event)) items.push(event);
      // There may be more in this step: the next page begins right after this row.
      if (items.length === wanted) return { items, nextPageToken: pageTokenOf([event.id]) };
    }
    token = step.nextPageToken;
    looked += step.items.length;
    if (token === "") break;
  }
  return { items, nextPageToken: token };
}

async function tail(tx: Tx, scope: Past, filters: readonly Filter[], wanted: number): Promise<Event[]> {
  const newestFirst: Event[] = [];
  let beforeId: number | undefined;
  for (let looked = 0; looked < Math.max(MAX_LOOKED, wanted);) {
    const rows = await listEventsBackwards(tx, {
      ...scope,
      limit: STEP,
      ...(beforeId === undefined ? {} : { beforeId }),
    });
    newestFirst.push(...rows.map(eventMessage).filter((event) => matches(filters, event)));
    looked += rows.length;
    beforeId = rows.at(-1)?.id;
    if (rows.length < STEP || newestFirst.length >= wanted) break;
  }
  return newestFirst.slice(0, wanted).reverse();
}

async function* watch(
  { store, events }: EventDeps,
  { namespace, filters: texts, cursor }: WatchEventsRequest,
  signal: AbortSignal,
): AsyncGenerator<WatchEventsResponse> {
  const filters = parseFilters(texts, "filters");
  const scope = namespaceScope(namespace);
  const { storeEpoch } = await getStoreMeta(store.db);
  let mark = cursor === "" ? await currentMark(store.db) : await parseMark(store.db, "events", cursor);
  if (cursor === "") {
    // There is no snapshot: a watch begins now. It says so, with a place to resume from.
    yield create(WatchEventsResponseSchema, { event: watchEvent("SNAPSHOT_END", formatMark(storeEpoch, mark)) });
  }
  for await (const batch of events.follow(mark.position, signal)) {
    for (const { event: row, position } of batch) {
      mark = advanceMark(mark, position);
      if (hasSeen(mark, position.xid)) continue;
      if (scope.namespace !== undefined && row.namespace !== scope.namespace) continue;
      const item = eventMessage(row);
      if (!matches(filters, item)) continue;
      yield create(WatchEventsResponseSchema, { event: watchEvent("ADDED", formatMark(storeEpoch, mark)), item });
    }
  }
  throwIfAborted(signal);
}
