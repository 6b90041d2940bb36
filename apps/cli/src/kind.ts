/**
 * What a kind of resource is to the verbs: its names, its columns, its calls; and how all kinds read pages and watches. The kinds
 * themselves are in `kinds.ts`.
 */
import { create, type DescMessage } from "@bufbuild/protobuf";
import { timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { Column } from "@berth/base/terminal";
import { WatchEventSchema, type Metadata, type WatchEvent, type Watermark } from "@berth/proto";
import type { Session } from "./session.ts";

export interface Listing<T> {
  readonly items: readonly T[];
  readonly cursor: string;
  /** Of the page whose nodes are furthest behind. */
  readonly watermark?: Watermark | undefined;
}

export interface ListQuery {
  /** `-` for all. */
  readonly namespace: string;
  readonly selector: string;
  readonly workload?: string;
  readonly node?: string;
  /** As they were then. */
  readonly asOf?: Timestamp;
}

export interface Watched<T> {
  readonly event: WatchEvent;
  /** Absent at the end of the snapshot that a watch without a cursor begins with. */
  readonly object: T | undefined;
}

/** A change of an object, as it is told to people. */
export interface Change<T> {
  readonly event: WatchEvent;
  readonly object: T;
}

export type Resource = { metadata?: Metadata | undefined };

/** One kind of resource, as the verbs use it. */
export interface Kind<T extends Resource = Resource> {
  readonly kind: string;
  readonly plural: string;
  readonly aliases: readonly string[];
  readonly namespaced: boolean;
  readonly schema: DescMessage;
  readonly columns: (now: () => number) => readonly Column<T>[];
  list(session: Session, query: ListQuery): Promise<Listing<T>>;
  /** Absent where nothing of the past is kept. */
  readonly past?: true;
  get(session: Session, namespace: string, name: string, asOf?: Timestamp): Promise<T>;
  watch?(session: Session, query: ListQuery, cursor: string): AsyncIterable<Watched<T>>;
  /** Absent where users do not delete. */
  delete?(session: Session, namespace: string, name: string): Promise<T>;
  /** Absent where users do not apply. */
  apply?(session: Session, object: T, options: { readonly dryRun: boolean; readonly cause?: string }): Promise<T>;
  /** What the answer to an apply tells besides, and no other does. */
  remark?(applied: T): string | undefined;
}

export const PAGE_SIZE = 500;

export const past = (asOf: Timestamp | undefined): { asOf?: Timestamp } => (asOf === undefined ? {} : { asOf });

/** Reads every page; the cursor is the first page's, so that a watch from it misses nothing. */
export async function pages<T>(
  fetch: (
    pageToken: string,
  ) => Promise<{ items: T[]; nextPageToken: string; cursor?: string; watermark?: Watermark | undefined }>,
): Promise<Listing<T>> {
  const items: T[] = [];
  let cursor: string | undefined;
  let watermark: Watermark | undefined;
  for (let token = ""; ;) {
    const page = await fetch(token);
    items.push(...page.items);
    cursor ??= page.cursor ?? "";
    watermark = older(watermark, page.watermark);
    if (page.nextPageToken === "") return { items, cursor, watermark };
    token = page.nextPageToken;
  }
}

function older(a: Watermark | undefined, b: Watermark | undefined): Watermark | undefined {
  if (a?.observedUntil === undefined || b?.observedUntil === undefined) return a ?? b;
  return timestampMs(b.observedUntil) < timestampMs(a.observedUntil) ? b : a;
}

export async function* watched<R extends { event?: WatchEvent | undefined }, T>(
  stream: AsyncIterable<R>,
  pick: (response: R) => T | undefined,
): AsyncIterable<Watched<T>> {
  for await (const response of stream) {
    yield { event: response.event ?? create(WatchEventSchema), object: pick(response) };
  }
}
