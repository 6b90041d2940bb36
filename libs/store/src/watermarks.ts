/** Up to when what is known of nodes speaks: their journals, as far as they are stored, against what they said they have. */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";

export interface NodeWatermark {
  readonly node: string;
  readonly observedUntil: Date;
  readonly journalEpoch: string;
  readonly storedSeq: number;
  readonly headSeq: number;
  /** It is silent, or nothing was stored of it for a while though there is more. */
  readonly stale: boolean;
}

/** An entry that is a moment under way is no news. */
const STALE_SECONDS = 10;

export async function nodeWatermarks(tx: Tx, names: readonly string[]): Promise<ReadonlyMap<string, NodeWatermark>> {
  if (names.length === 0) return new Map();
  const rows = await tx.execute<{
    node: string;
    until: string;
    epoch: string;
    stored: string;
    head: string;
    stale: boolean;
  }>(sql`
    select n.name as node, n.journal_epoch as epoch, coalesce(j.stored_seq, 0)::text as stored,
      n.journal_head_seq::text as head,
      (case when coalesce(j.stored_seq, 0) >= n.journal_head_seq then n.lease_renewed_at
        else coalesce(j.stored_time, n.created_at) end)::text as until,
      n.phase = 'Unknown' or (coalesce(j.stored_seq, 0) < n.journal_head_seq
        and coalesce(j.updated_at, n.created_at) < now() - make_interval(secs => ${STALE_SECONDS})) as stale
    from nodes n left join journal_state j on j.node = n.name and j.epoch = n.journal_epoch
    where n.name in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
  return new Map(
    rows.map((row) => [
      row.node,
      {
        node: row.node,
        observedUntil: new Date(row.until),
        journalEpoch: row.epoch,
        storedSeq: Number(row.stored),
        headSeq: Number(row.head),
        stale: row.stale,
      },
    ]),
  );
}
