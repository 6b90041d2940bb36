/**
 * Lists: a page and where a watch goes on from it (of several pages, the first one's cursor misses nothing); or all pages of one snapshot, for a watch that
 * begins.
 */
import {
  currentMark,
  formatMark,
  getStoreMeta,
  together,
  type Page,
  type PageRequest,
  type Store,
  type Tx,
} from "@berth/store";

export interface ListedPage<Row> extends Page<Row> {
  readonly cursor: string;
}

export async function listPage<Row>(store: Store, read: (tx: Tx) => Promise<Page<Row>>): Promise<ListedPage<Row>> {
  return await store.snapshot(async (tx) => {
    // All of one snapshot, whatever comes first: asked together they are one trip to Postgres.
    const [{ storeEpoch }, mark, page] = await together(getStoreMeta(tx), currentMark(tx), read(tx));
    return { ...page, cursor: formatMark(storeEpoch, mark) };
  });
}

const WHOLE_PAGE = 1_000;

export async function allPages<Row>(read: (page: PageRequest) => Promise<Page<Row>>): Promise<Row[]> {
  const rows: Row[] = [];
  let pageToken = "";
  do {
    const page = await read({ pageSize: WHOLE_PAGE, pageToken });
    rows.push(...page.items);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return rows;
}
