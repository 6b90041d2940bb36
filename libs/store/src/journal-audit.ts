/** What is stored of journals, to be looked over: epochs with their chains, and events with the bytes they were made of. */
import { and, asc, eq, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { events, journalState, nodes } from "./schema/index.ts";

export interface StoredEpoch {
  readonly node: string;
  readonly epoch: string;
  readonly storedSeq: number;
  /** As the node's lease said; 0 where this is not its current epoch. */
  readonly headSeq: number;
  readonly storedAt: Date;
  readonly headHash: Uint8Array | null;
  readonly chainedFromSeq: number | null;
  readonly breaks: number;
  readonly acknowledgedBreaks: number;
  readonly acknowledgedAt: Date | null;
  readonly acknowledgedBy: string;
  readonly acknowledgedReason: string;
}

/** In the order in which they began. */
export function storedEpochs(tx: Tx, node: string): Promise<StoredEpoch[]> {
  return tx
    .select({
      node: journalState.node,
      epoch: journalState.epoch,
      storedSeq: journalState.storedSeq,
      headSeq: sql<number>`coalesce(${nodes.journalHeadSeq}, 0)`.mapWith(Number),
      storedAt: journalState.updatedAt,
      headHash: journalState.headHash,
      chainedFromSeq: journalState.chainedFromSeq,
      breaks: journalState.breaks,
      acknowledgedBreaks: journalState.acknowledgedBreaks,
      acknowledgedAt: journalState.acknowledgedAt,
      acknowledgedBy: journalState.acknowledgedBy,
      acknowledgedReason: journalState.acknowledgedReason,
    })
    .from(journalState)
    .leftJoin(nodes, and(eq(nodes.name, journalState.node), eq(nodes.journalEpoch, journalState.epoch)))
    .where(eq(journalState.node, node))
    .orderBy(asc(journalState.ordinal));
}

export type JournalEventRow = typeof events.$inferSelect;

/** What is kept of an epoch after a row, in its order. */
export function journalEvents(
  tx: Tx,
  { node, epoch, after, limit }: { node: string; epoch: string; after: { seq: number; id: number }; limit: number },
): Promise<JournalEventRow[]> {
  return tx
    .select()
    .from(events)
    .where(
      and(
        eq(events.node, node),
        eq(events.journalEpoch, epoch),
        sql`(${events.journalSeq}, ${events.id}) > (${after.seq}::bigint, ${after.id}::bigint)`,
      ),
    )
    .orderBy(asc(events.journalSeq), asc(events.id))
    .limit(limit);
}
