/** What is counted beside a node's row: what its tasks declare, and how far its journal is stored. */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { HOLDS_ROOM } from "./room.ts";

/** What a node's tasks declare, and how far its journal is stored. */
export interface NodeUsage {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly tasks: number;
  /** Of what is lost there: by when the stopper has ended the last of it, and how many nothing ends. */
  readonly fencedUntil: Date | null;
  readonly unboundedTasks: number;
  readonly journal: NodeJournal;
}

/** What is stored of a node's journal: of its current epoch, and of all the breaks that nobody has acknowledged. */
export interface NodeJournal {
  readonly storedSeq: number;
  readonly storedAt: Date | null;
  readonly breaks: number;
  /** Where the chain broke last. */
  readonly lastBreak?: { readonly epoch: string; readonly seq: number; readonly at: Date };
}

export async function nodeUsage(tx: Tx, names: readonly string[]): Promise<ReadonlyMap<string, NodeUsage>> {
  const rows = await tx.execute<{
    name: string;
    cpu: string;
    memory: string;
    tasks: number;
    fenced_until: string | null;
    unbounded: number;
    stored: string;
    stored_at: string | null;
    breaks: string;
    break_epoch: string | null;
    break_seq: string | null;
    break_at: string | null;
  }>(sql`
    select n.name, coalesce(t.cpu, 0)::text as cpu, coalesce(t.memory, 0)::text as memory,
      coalesce(t.tasks, 0) as tasks, t.fenced_until::text as fenced_until, coalesce(t.unbounded, 0) as unbounded,
      coalesce(j.stored_seq, 0)::text as stored, j.updated_at::text as stored_at,
      coalesce(b.breaks, 0)::text as breaks, b.epoch as break_epoch, b.seq::text as break_seq, b.at::text as break_at
    from nodes n
    left join lateral (
      select sum(cpu_millis) as cpu, sum(memory_bytes) as memory, count(*)::int as tasks,
        max(possibly_until) filter (where certainty in ('unreachable', 'fenced')) as fenced_until,
        (count(*) filter (where certainty = 'unreachable' and possibly_until is null))::int as unbounded
      from tasks where node = n.name and ${HOLDS_ROOM}) t on true
    left join journal_state j on j.node = n.name and j.epoch = n.journal_epoch
    left join lateral (
      select sum(breaks - acknowledged_breaks) over () as breaks, epoch, last_break_seq as seq, last_break_at as at
      from journal_state where node = n.name and breaks > acknowledged_breaks order by last_break_at desc limit 1) b on true
    where n.name in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
  return new Map(
    rows.map((row) => [
      row.name,
      {
        cpuMillis: Number(row.cpu),
        memoryBytes: Number(row.memory),
        tasks: row.tasks,
        fencedUntil: row.fenced_until === null ? null : new Date(row.fenced_until),
        unboundedTasks: row.unbounded,
        journal: {
          storedSeq: Number(row.stored),
          storedAt: row.stored_at === null ? null : new Date(row.stored_at),
          breaks: Number(row.breaks),
          ...(row.break_epoch === null
            ? {}
            : { lastBreak: { epoch: row.break_epoch, seq: Number(row.break_seq), at: new Date(row.break_at!) } }),
        },
      },
    ]),
  );
}
