/** How far the nodes' journals are stored (D4), and who may store them. */
import { StatusError } from "@berth/base";
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";

export interface JournalState {
  readonly node: string;
  readonly epoch: string;
  /** Epochs of a node in the order of their appearance. */
  readonly ordinal: number;
  readonly storedSeq: number;
  /** Of the last stored entry; null when it has none. */
  readonly headHash: Uint8Array | null;
  /** Null: no entry of the epoch is chained. */
  readonly chainedFromSeq: number | null;
}

/** Makes epochs known; those that are known keep their place. */
export async function addJournalEpochs(
  tx: Tx,
  epochs: readonly { readonly node: string; readonly epoch: string }[],
): Promise<void> {
  if (epochs.length === 0) return;
  await tx.execute(sql`
    insert into journal_state (node, epoch)
    select node, epoch from jsonb_to_recordset(${JSON.stringify(epochs)}::jsonb) as r(node text, epoch text)
    on conflict do nothing`);
}

export async function journalStates(tx: Tx, nodes: readonly string[], lock = false): Promise<JournalState[]> {
  const rows = await tx.execute<{
    node: string;
    epoch: string;
    ordinal: string;
    stored: string;
    head: string | null;
    chained: string | null;
  }>(sql`
    select node, epoch, ordinal::text as ordinal, stored_seq::text as stored, encode(head_hash, 'hex') as head,
      chained_from_seq::text as chained
    from journal_state where node in (select jsonb_array_elements_text(${JSON.stringify(nodes)}::jsonb))
    order by node, ordinal ${lock ? sql`for update` : sql``}`);
  return rows.map((row) => ({
    node: row.node,
    epoch: row.epoch,
    ordinal: Number(row.ordinal),
    storedSeq: Number(row.stored),
    headHash: row.head === null ? null : Buffer.from(row.head, "hex"),
    chainedFromSeq: row.chained === null ? null : Number(row.chained),
  }));
}

/** How far an epoch is stored from now on, and what its chain is there. */
export interface JournalMark {
  readonly node: string;
  readonly epoch: string;
  readonly storedSeq: number;
  /** When the last entry was written, by its node's clock; undefined: not known. */
  readonly storedTime?: Date;
  /** Hex; null: the last entry has none. */
  readonly headHash: string | null;
  readonly chainedFromSeq: number | null;
  /** Entries that did not follow, and the last of them. */
  readonly breaks: number;
  readonly lastBreakSeq?: number;
}

/** Moves watermarks on, never back. */
export async function setStored(tx: Tx, marks: readonly JournalMark[]): Promise<void> {
  if (marks.length === 0) return;
  await tx.execute(sql`
    update journal_state j set stored_seq = v."storedSeq", updated_at = now(),
      stored_time = coalesce(v."storedTime", j.stored_time), head_hash = decode(v."headHash", 'hex'),
      chained_from_seq = v."chainedFromSeq", breaks = j.breaks + v.breaks,
      last_break_seq = coalesce(v."lastBreakSeq", j.last_break_seq),
      last_break_at = case when v.breaks > 0 then now() else j.last_break_at end
    from jsonb_to_recordset(${JSON.stringify(marks)}::jsonb) as v(
      node text, epoch text, "storedSeq" bigint, "storedTime" timestamptz, "headHash" text, "chainedFromSeq" bigint,
      breaks int, "lastBreakSeq" bigint)
    where j.node = v.node and j.epoch = v.epoch and j.stored_seq < v."storedSeq"`);
}

/**
 * Takes note of all breaks of a node's journal that are known: somebody has looked at them. In the order of locks of those who
 * store: before the node's row. @returns how many were not acknowledged before
 */
export async function acknowledgeBreaks(tx: Tx, node: string, by: string, reason: string): Promise<number> {
  const rows = await tx.execute<{ open: string }>(sql`
    with open as (
      select node, epoch, breaks - acknowledged_breaks as open from journal_state
      where node = ${node} and breaks > acknowledged_breaks for update)
    update journal_state j set acknowledged_breaks = j.acknowledged_breaks + o.open, acknowledged_at = now(),
      acknowledged_by = ${by}, acknowledged_reason = ${reason}
    from open o where j.node = o.node and j.epoch = o.epoch returning o.open::text as open`);
  return rows.reduce((sum, { open }) => sum + Number(open), 0);
}

export interface LaggingJournal {
  readonly node: string;
  readonly epoch: string;
  readonly storedSeq: number;
  readonly headSeq: number;
}

/** Nodes of a shard that hold a lease and have said that their journal goes on beyond what is stored. */
export async function laggingJournals(tx: Tx, shard: number): Promise<LaggingJournal[]> {
  const rows = await tx.execute<{ node: string; epoch: string; stored: string; head: string }>(sql`
    select n.name as node, n.journal_epoch as epoch, coalesce(j.stored_seq, 0)::text as stored,
      n.journal_head_seq::text as head
    from nodes n left join journal_state j on j.node = n.name and j.epoch = n.journal_epoch
    where n.shard = ${shard} and n.phase <> 'Unknown' and n.journal_epoch <> ''
      and n.journal_head_seq > coalesce(j.stored_seq, 0)`);
  return rows.map((row) => ({
    node: row.node,
    epoch: row.epoch,
    storedSeq: Number(row.stored),
    headSeq: Number(row.head),
  }));
}

/** Becomes the shard's owner: writes of every earlier one are refused from here on. */
export async function takeShard(tx: Tx, shard: number, owner: string): Promise<number> {
  const [row] = await tx.execute<{ epoch: string }>(sql`
    insert into ingest_shards (shard, epoch, owner) values (${shard}, 1, ${owner})
    on conflict (shard) do update set epoch = ingest_shards.epoch + 1, owner = excluded.owner
    returning epoch::text as epoch`);
  return Number(row!.epoch);
}

/**
 * Makes sure that this transaction is the owner's, and stays so until it ends: {@link takeShard} waits for it.
 * @throws ABORTED `SHARD_TAKEN`
 */
export async function holdShard(tx: Tx, shard: number, epoch: number): Promise<void> {
  const [row] = await tx.execute<{ epoch: string }>(
    sql`select epoch::text as epoch from ingest_shards where shard = ${shard} for share`,
  );
  if (Number(row?.epoch) === epoch) return;
  throw new StatusError("ABORTED", `ingest shard ${shard}: somebody else owns it since epoch ${row?.epoch ?? "none"}`, {
    reason: "SHARD_TAKEN",
  });
}
