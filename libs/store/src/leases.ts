/**
 * What agents say of themselves, and until when they are believed. Many renewals are one statement.
 *
 * All lease times are Postgres' clock, taken when the row is written: that is after the request arrived, so the controller
 * never thinks a lease over before its agent does, and several controllers agree.
 */
import { uuidv7 } from "@berth/base";
import type { JsonObject } from "@bufbuild/protobuf";
import { asc, eq, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import type { NodeRow } from "./node-message.ts";
import { nodesByName, recordNodes } from "./nodes.ts";
import { nodes, type NodeConflict } from "./schema/index.ts";
import { STORE_NOW_MS } from "./time.ts";

/** A lease request as columns. */
export interface LeaseRenewal {
  readonly name: string;
  readonly agentLabels: Record<string, string>;
  readonly phase: "Ready" | "NotReady";
  readonly conditions: readonly JsonObject[];
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly maxTasks: number;
  readonly diskBytes: number;
  readonly runtimeHandlers: readonly string[];
  readonly snapshotters: readonly string[];
  readonly agentVersion: string;
  readonly features: readonly string[];
  readonly kernelVersion: string;
  readonly address: string;
  readonly bootId: string;
  readonly instance: string;
  readonly journalEpoch: string;
  readonly journalHeadSeq: number;
  readonly appliedRevision: number;
  /** The newest that a job has brought, of the applied store; it is ahead until a set confirms it. */
  readonly takenRevision: number;
  readonly appliedStoreEpoch: string;
  readonly shard: number;
  readonly machineId: string;
}

export interface LeasedNode {
  readonly row: NodeRow;
  /** Postgres' clock, at the time of the lock. */
  readonly now: Date;
  readonly leaseFresh: boolean;
}

/** Adds nodes that are heard for the first time; their lease begins with the renewal that follows. */
export async function insertNewNodes(tx: Tx, renewals: readonly LeaseRenewal[]): Promise<string[]> {
  if (renewals.length === 0) return [];
  const rows = renewals.map(({ name, shard }) => ({ uid: uuidv7(), name, shard }));
  const inserted = await tx.execute<{ name: string }>(sql`
    insert into nodes (uid, name, shard, phase, lease_renewed_at, lease_expires_at, assignment_revision, holdings)
    select r.uid, r.name, r.shard, 'Unknown', now(), now() - interval '1 second', coalesce(f.assignment_revision, 0),
      (select case when restored_at is null then '' else 'wanted' end from store_meta)
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(uid uuid, name text, shard smallint)
    left join forgotten_nodes f on f.name = r.name
    on conflict (name) do nothing returning nodes.name`);
  return inserted.map((row) => row.name);
}

/** Locks nodes in the order of their names and says whose lease still runs. */
export async function lockLeases(tx: Tx, names: readonly string[]): Promise<LeasedNode[]> {
  const rows = await tx
    .select({ row: nodes, nowMs: STORE_NOW_MS })
    .from(nodes)
    .where(sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`)
    .orderBy(asc(nodes.name))
    .for("update");
  return rows.map(({ row, nowMs }) => ({
    row,
    now: new Date(nowMs),
    leaseFresh: row.leaseExpiresAt.getTime() > nowMs,
  }));
}

/**
 * Renews leases of rows that this transaction has locked. Those in `visible` differ in more than their times: their change
 * is recorded for watches (renewals alone are not news). That a brake held (`eviction_held`) stays until it is told that it holds
 * no more ({@link setEvictionHolds}).
 */
export async function renewLeases(
  tx: Tx,
  renewals: readonly LeaseRenewal[],
  ttlMs: number,
  visible: ReadonlySet<string>,
): Promise<NodeRow[]> {
  if (renewals.length === 0) return [];
  await tx.execute(sql`
    update nodes n set
      agent_labels = v."agentLabels", phase = v.phase, conditions = v.conditions, cpu_millis = v."cpuMillis",
      memory_bytes = v."memoryBytes", max_tasks = v."maxTasks", disk_bytes = v."diskBytes",
      runtime_handlers = v."runtimeHandlers", snapshotters = v.snapshotters, agent_version = v."agentVersion", features = v.features,
      kernel_version = v."kernelVersion", address = v.address, boot_id = v."bootId", instance = v.instance,
      previous_instance = case when n.instance = v.instance then n.previous_instance else n.instance end,
      journal_epoch = v."journalEpoch", journal_head_seq = v."journalHeadSeq",
      applied_revision = v."appliedRevision", applied_store_epoch = v."appliedStoreEpoch",
      lease_renewed_at = clock_timestamp(),
      lease_expires_at = clock_timestamp() + make_interval(secs => ${ttlMs / 1000}),
      silent_since = null,
      machine_id = case when v."machineId" = '' then n.machine_id else v."machineId" end,
      conflict = case when (n.conflict ->> 'at')::timestamptz < now() - interval '60 seconds' then null else n.conflict end,
      resource_version = n.resource_version + case when v.name = any(
        array(select jsonb_array_elements_text(${JSON.stringify([...visible])}::jsonb))) then 1 else 0 end
    from jsonb_to_recordset(${JSON.stringify(renewals)}::jsonb) as v(
      name text, "agentLabels" jsonb, phase text, conditions jsonb, "cpuMillis" bigint, "memoryBytes" bigint,
      "maxTasks" int, "diskBytes" bigint, "runtimeHandlers" text[], snapshotters text[], "agentVersion" text, features text[],
      "kernelVersion" text, address text, "bootId" text, instance text, "journalEpoch" text, "journalHeadSeq" bigint,
      "appliedRevision" bigint, "appliedStoreEpoch" text, "machineId" text)
    where n.name = v.name`);
  if (visible.size === 0) return [];
  const rows = await tx
    .select()
    .from(nodes)
    .where(sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify([...visible])}::jsonb))`);
  await recordNodes(tx, rows, "MODIFIED");
  return rows;
}

/** Notes who was refused a node's name, of a row that this transaction has locked. */
export async function setConflict(tx: Tx, row: NodeRow, conflict: NodeConflict, visible: boolean): Promise<void> {
  const [updated] = await tx
    .update(nodes)
    .set({ conflict, resourceVersion: sql`${nodes.resourceVersion} + ${visible ? 1 : 0}` })
    .where(eq(nodes.name, row.name))
    .returning();
  if (visible) await recordNodes(tx, [updated!], "MODIFIED");
}

/** Says why silent nodes' tasks are not replaced; rows must be locked by this transaction. */
export async function setEvictionHolds(
  tx: Tx,
  holds: readonly { readonly name: string; readonly hold: string }[],
): Promise<NodeRow[]> {
  // prettier-ignore
  if (holds.length === 0) return [];
  await tx.execute(sql`
    update nodes n set eviction_held = v.hold, resource_version = n.resource_version + 1
    from jsonb_to_recordset(${JSON.stringify(holds)}::jsonb) as v(name text, hold text) where n.name = v.name`);
  const rows = await nodesByName(tx, holds.map(({ name }) => name)); // prettier-ignore
  await recordNodes(tx, rows, "MODIFIED");
  return rows;
}

/** What the look for silence finds at a glance: mostly nothing to do. */
export interface LeaseSurvey {
  readonly nodes: number;
  /** Leases that have run out, of nodes that are not known to be silent yet. */
  readonly expired: number;
  readonly silent: number;
  /** Nodes that are said to be held. */
  readonly held: number;
  /** Is there a task on a node that is, or was, silent? */
  readonly unreachable: boolean;
}

export async function surveyLeases(tx: Tx): Promise<LeaseSurvey> {
  const [row] = await tx.execute<{ [Key in keyof LeaseSurvey]: LeaseSurvey[Key] }>(sql`
    select count(*)::int as nodes,
      (count(*) filter (where phase <> 'Unknown' and lease_expires_at <= clock_timestamp()))::int as expired,
      (count(*) filter (where phase = 'Unknown'))::int as silent,
      (count(*) filter (where eviction_held <> ''))::int as held,
      exists (select from tasks where certainty = 'unreachable') as unreachable
    from nodes`);
  return row!;
}

/** Nodes whose lease has run out by Postgres' clock, and that are not known to be silent yet. */
export async function expiredNodes(tx: Tx): Promise<string[]> {
  const rows = await tx.execute<{ name: string }>(sql`
    select name from nodes where phase <> 'Unknown' and lease_expires_at <= clock_timestamp() order by name`);
  return rows.map((row) => row.name);
}

/** Marks nodes silent, those whose lease has not come back since. Rows must be locked by this transaction. */
export async function markSilent(tx: Tx, names: readonly string[]): Promise<NodeRow[]> {
  if (names.length === 0) return [];
  const marked = await tx.execute<{ name: string }>(sql`
    update nodes set phase = 'Unknown', silent_since = clock_timestamp(), resource_version = resource_version + 1
    where name in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))
      and phase <> 'Unknown' and lease_expires_at <= clock_timestamp()
    returning name`);
  const rows = await tx
    .select()
    .from(nodes)
    .where(
      sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(marked.map((row) => row.name))}::jsonb))`,
    );
  await recordNodes(tx, rows, "MODIFIED");
  return rows;
}

/**
 * Tasks whose certainty does not agree with whether their node is silent, or with the time: at most `limit`. Lock them before
 * writing, and look again.
 */
export async function tasksOfWrongCertainty(tx: Tx, limit: number): Promise<string[]> {
  const rows = await tx.execute<{ uid: string }>(sql`
    select uid::text as uid from (
      select t.uid from nodes n join tasks t on t.node = n.name
      where n.phase = 'Unknown' and (
        (t.certainty = 'observed' and t.phase not in ('Succeeded', 'Failed', 'Stopped'))
        or (t.certainty = 'unreachable' and t.possibly_until <= clock_timestamp()))
      union all
      select t.uid from tasks t join nodes n on n.name = t.node
      where t.certainty = 'unreachable' and n.phase <> 'Unknown') wrong
    order by uid limit ${limit}`);
  return rows.map((row) => row.uid);
}
