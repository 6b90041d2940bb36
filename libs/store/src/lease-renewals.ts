/**
 * The renewals that are most of what a fleet at rest costs: of agents that say what they said before, to rows that nobody has
 * changed since. One statement renews many, and gives all that their answers need.
 */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { IDENTITY } from "./meta.ts";
import { storeError } from "./postgres-error.ts";

export interface KnownRenewal {
  readonly name: string;
  /** Of the row when it was seen to say what the agent says now. */
  readonly resourceVersion: number;
  readonly instance: string;
  readonly journalEpoch: string;
  readonly journalHeadSeq: number;
  readonly appliedRevision: number;
  readonly takenRevision: number;
  readonly appliedStoreEpoch: string;
}

export interface RenewedLease {
  readonly name: string;
  readonly shard: number;
  readonly assignmentRevision: number;
  readonly storeEpoch: string;
  readonly mirrorsRevision: number;
  /** The store was put back: the node is to tell what it holds; nothing that must never run twice is to be started. */
  readonly holdingsWanted: boolean;
  readonly held: boolean;
  /** By journal epoch. */
  readonly stored: Readonly<Record<string, number>>;
}

/**
 * Renews the leases of those whose row is as it was: the same version and holder, heard of, without a conflict or a hold, and not
 * behind its node (a restored store: D5); and none while the store is held, or its nodes are to tell what they hold. The others are left out of the answer, and as they are; they want a closer look.
 */
export async function renewKnown(tx: Tx, renewals: readonly KnownRenewal[], ttlMs: number): Promise<RenewedLease[]> {
  if (renewals.length === 0) return [];
  const rows = await tx
    .execute<{
      name: string;
      shard: number;
      revision: string;
      epoch: string;
      mirrors: string;
      stored: Record<string, number> | null;
    }>(sql`
    with asked as (
      select * from jsonb_to_recordset(${JSON.stringify(renewals)}::jsonb) as v(
        name text, "resourceVersion" bigint, instance text, "journalEpoch" text, "journalHeadSeq" bigint,
        "appliedRevision" bigint, "takenRevision" bigint, "appliedStoreEpoch" text)),
    locked as (
      select v.* from asked v join nodes n on n.name = v.name, store_meta m
      where n.resource_version = v."resourceVersion" and n.instance = v.instance and n.journal_epoch = v."journalEpoch"
        and n.phase <> 'Unknown' and n.conflict is null and n.eviction_held = ''
        and n.holdings = '' and not m.held and m.identity in ('', ${IDENTITY})
        and not (v."appliedStoreEpoch" = m.store_epoch::text 
          and greatest(v."appliedRevision", v."takenRevision") > n.assignment_revision)
      order by n.name for update of n)
    update nodes n set
      lease_renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() + make_interval(secs => ${ttlMs / 1000}),
      journal_head_seq = l."journalHeadSeq", applied_revision = l."appliedRevision",
      applied_store_epoch = l."appliedStoreEpoch"
    from locked l, store_meta m where n.name = l.name
    returning n.name, n.shard, n.assignment_revision::text as revision, m.store_epoch::text as epoch,
      m.mirrors_revision::text as mirrors,
      (select jsonb_object_agg(j.epoch, j.stored_seq) from journal_state j where j.node = n.name) as stored`)
    // Outside of a transaction nobody else puts it into our words, and agents are told of it.
    .catch((error: unknown) => {
      throw storeError(error);
    });
  return rows.map((row) => ({
    name: row.name,
    shard: row.shard,
    assignmentRevision: Number(row.revision),
    storeEpoch: row.epoch,
    mirrorsRevision: Number(row.mirrors),
    holdingsWanted: false,
    held: false,
    stored: row.stored ?? {},
  }));
}
