/** The ingests of a store on disk: their rows, their folders, who may touch them, how long they are kept. */
import { stat } from "node:fs/promises";
import type { Clock } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import type { IngestStatus, WriterOptions } from "./content.ts";
import { ingestDiffers, ingestLocked, ingestMissing, ingestTooLarge, type IngestHolder } from "./errors.ts";
import type { IngestClaims } from "./ingest-claims.ts";
import { ingestStatus } from "./ingest-writer.ts";
import { checkLabels, ingestMatches, parseFilters } from "./labels.ts";
import { fileError, isMissing, type Layout } from "./layout.ts";
import { deleteIngest, insertIngest, releaseIngests, updateIngest, type ContentRows, type IngestRow } from "./rows.ts";

export interface IngestsDeps {
  readonly layout: Layout;
  readonly metadata: Metadata;
  readonly rows: ContentRows;
  /** Invariant 2 of `content.ts`. */
  readonly claims: IngestClaims;
  readonly clock: Clock;
}

export class Ingests {
  readonly #deps: IngestsDeps;

  constructor(deps: IngestsDeps) {
    this.#deps = deps;
  }

  /** What gives the ref free. @throws UNAVAILABLE `INGEST_LOCKED` naming the holder. */
  claim(namespace: string, ref: string, holder?: string): () => void {
    const { claims, layout, clock } = this.#deps;
    const name = layout.ingestName(namespace, ref);
    const me: IngestHolder = { holder, sinceMs: clock.nowMs() };
    const release = claims.tryClaim(name, me);
    if (release === undefined) throw ingestLocked(namespace, ref, claims.holder(name) ?? me);
    return release;
  }

  /** The row comes before the folder, so that a folder without a row is always a leftover. */
  async begin(namespace: string, options: WriterOptions): Promise<IngestRow> {
    const { rows, metadata, clock } = this.#deps;
    checkLabels(options.labels ?? {});
    const before = rows.ingest(namespace, options.ref);
    if (before === undefined) {
      const { ref, totalBytes = 0, expected, labels = {}, lease } = options;
      const row: IngestRow = { namespace, ref, totalBytes, expected, labels, lease, startedAtMs: clock.nowMs() };
      await metadata.transact([insertIngest(row)]);
      return row;
    }
    const row = resumedIngest(before, options);
    if (JSON.stringify(row) !== JSON.stringify(before)) await metadata.transact([updateIngest(row)]);
    return row;
  }

  async status(namespace: string, ref: string): Promise<IngestStatus> {
    const row = this.#deps.rows.ingest(namespace, ref);
    const status = row === undefined ? undefined : await this.#statusOf(row);
    if (status === undefined) throw ingestMissing(namespace, ref);
    return status;
  }

  async list(namespace: string, filters: readonly string[] | undefined): Promise<readonly IngestStatus[]> {
    const wanted = parseFilters(filters);
    const statuses = await Promise.all(this.#deps.rows.ingests(namespace).map((row) => this.#statusOf(row)));
    return statuses.filter((status) => status !== undefined).filter((status) => ingestMatches(wanted, status));
  }

  async abort(namespace: string, ref: string): Promise<void> {
    const release = this.claim(namespace, ref, "an abort");
    try {
      if (this.#deps.rows.ingest(namespace, ref) === undefined) throw ingestMissing(namespace, ref);
      await this.drop(namespace, ref);
    } finally {
      release();
    }
  }

  /** The caller holds the claim. */
  async drop(namespace: string, ref: string): Promise<void> {
    await this.#deps.metadata.transact([deleteIngest(namespace, ref)]);
    await this.#deps.layout.removeIngest(namespace, ref);
  }

  async releaseLease(namespace: string, lease: string): Promise<number> {
    const { rows, claims, layout, metadata } = this.#deps;
    let dropped = 0;
    for (const { ref } of rows.ingests(namespace).filter((row) => row.lease === lease)) {
      const done = await claims.ifFree(layout.ingestName(namespace, ref), async () => {
        if (rows.ingest(namespace, ref)?.lease !== lease) return false;
        await this.drop(namespace, ref);
        return true;
      });
      if (done) dropped += 1;
    }
    await metadata.transact([releaseIngests(namespace, lease)]);
    return dropped;
  }

  /** Undefined when the ingest has ended meanwhile. */
  async #statusOf(row: IngestRow): Promise<IngestStatus | undefined> {
    try {
      return ingestStatus(row, await stat(this.#deps.layout.ingestData(row.namespace, row.ref)));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw fileError(error, `ingest "${row.ref}"`);
    }
  }
}

/** What is known of an ingest, by its earlier and its new writer together. */
export function resumedIngest<T extends Pick<IngestRow, "totalBytes" | "expected" | "labels" | "lease">>(
  before: T,
  { ref, totalBytes, expected, labels, lease }: WriterOptions,
): T {
  if (totalBytes && before.totalBytes && before.totalBytes !== totalBytes) throw ingestDiffers(ref, "size");
  if (expected && before.expected && before.expected !== expected) throw ingestDiffers(ref, "digest");
  return {
    ...before,
    totalBytes: before.totalBytes || (totalBytes ?? 0),
    expected: before.expected ?? expected,
    labels: { ...before.labels, ...labels },
    lease: lease ?? before.lease,
  };
}

/** The tighter of the store's limit and the writer's. @throws RESOURCE_EXHAUSTED if what is announced is above it. */
export function ingestLimit(storeBytes: number, { ref, totalBytes = 0, maxBytes = Infinity }: WriterOptions): number {
  const limit = Math.min(storeBytes, maxBytes);
  if (totalBytes > limit) throw ingestTooLarge(ref, limit, ` of ${totalBytes} bytes`);
  return limit;
}
