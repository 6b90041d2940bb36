/**
 * What a drill looks at: the tasks of a slice of nodes before it, what became of them, and what was said of the nodes meanwhile.
 * Statements only; when a drill has converged and what it means is the controller's to say. What must hold of any fleet is in
 * `invariants.ts`.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { JournalEntrySchema } from "@berth/proto";
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { after, type StoreMark } from "./invariants.ts";
import type { DrilledTask } from "./schema/index.ts";

const COLUMNS = sql`uid::text as uid, namespace, name, node, workload_uid::text as "workloadUid", slot, desired, fence, phase,
  attempt, generation::float8 as generation, certainty`;

type Row = DrilledTask & Record<string, unknown>;

export async function tasksOnNodes(tx: Tx, nodes: readonly string[]): Promise<DrilledTask[]> {
  if (nodes.length === 0) return [];
  return [...(await tx.execute<Row>(sql`select ${COLUMNS} from tasks where node in ${[...nodes]} order by 2, 3`))];
}

/** All tasks of these workloads that are not gone, wherever they are. */
export async function tasksOfWorkloads(tx: Tx, uids: readonly string[]): Promise<DrilledTask[]> {
  if (uids.length === 0) return [];
  return [...(await tx.execute<Row>(sql`select ${COLUMNS} from tasks where workload_uid::text in ${[...uids]}`))];
}

/** Generations of workloads that are still wanted, by uid: who changed one amid a drill wants other tasks. */
export async function workloadGenerations(tx: Tx, uids: readonly string[]): Promise<Map<string, number>> {
  if (uids.length === 0) return new Map();
  const rows = await tx.execute<{ uid: string; generation: number }>(sql`
    select uid::text as uid, generation::float8 as generation from workloads
    where deleted_at is null and uid::text in ${[...uids]}`);
  return new Map(rows.map(({ uid, generation }) => [uid, generation]));
}

export interface RunTimes {
  readonly startedAtMs: number | undefined;
  readonly endedAtMs: number | undefined;
}

/**
 * Of tasks, by the journals: when each first started, and when it last ended, of what was stored since then. An agent that was
 * paused or away writes of an end when it is back; then what its supervisor wrote down counts.
 */
export async function runTimes(tx: Tx, uids: readonly string[], since: StoreMark): Promise<Map<string, RunTimes>> {
  if (uids.length === 0) return new Map();
  const rows = await tx.execute<{ uid: string; topic: string; atMs: number; entry: string | null }>(sql`
    select uid, topic, (extract(epoch from time) * 1000)::float8 as "atMs", encode(entry, 'base64') as entry from events
    where uid in ${[...uids]} ${after(since, "stored_at")}
      and topic in ('/tasks/start', '/tasks/exit', '/tasks/stopped', '/tasks/failed')`);
  const times = new Map<string, RunTimes>();
  for (const { uid, topic, atMs, entry } of rows) {
    const { startedAtMs, endedAtMs } = times.get(uid) ?? {};
    if (topic === "/tasks/start") times.set(uid, { startedAtMs: Math.min(startedAtMs ?? atMs, atMs), endedAtMs });
    else times.set(uid, { startedAtMs, endedAtMs: Math.max(endedAtMs ?? 0, endOf(entry) ?? atMs) });
  }
  return times;
}

function endOf(entry: string | null): number | undefined {
  try {
    const { body } = fromBinary(JournalEntrySchema, Buffer.from(entry ?? "", "base64"));
    const endedAt = body.case === "task" ? body.value.endedAt : undefined;
    return endedAt && timestampMs(endedAt);
  } catch {
    return undefined; // bytes that cannot be read are `berth journal verify`'s concern
  }
}

/** A node of the slice, now. */
export interface DrilledNode {
  readonly name: string;
  readonly phase: string;
  readonly leaseRenewedAtMs: number;
  /** Of the journal that it writes, some is not stored yet. */
  readonly isBehind: boolean;
}

export async function drilledNodes(tx: Tx, names: readonly string[]): Promise<DrilledNode[]> {
  if (names.length === 0) return [];
  return [
    ...(await tx.execute<DrilledNode & Record<string, unknown>>(sql`
      select n.name, n.phase, extract(epoch from n.lease_renewed_at)::float8 * 1000 as "leaseRenewedAtMs",
        n.journal_head_seq > coalesce(j.stored_seq, 0) as "isBehind"
      from nodes n left join journal_state j on j.node = n.name and j.epoch = n.journal_epoch
      where n.name in ${[...names]}`)),
  ];
}

/** What was said of nodes and of their tasks since then. */
export interface DrillNews {
  readonly node: string;
  /** Of a task. */
  readonly uid: string;
  /**
   * `/tasks/fenced`: T has passed. By the journals: `/tasks/stopped`: its node's stopper has ended it, or somebody wanted that;
   * `/tasks/failed`: its probe has; `/tasks/exit`: it has ended by itself, with a code that is no signal's.
   */
  readonly topic:
    | "/nodes/unknown"
    | "/nodes/agent"
    | "/tasks/fenced"
    | "/tasks/stopped"
    | "/tasks/failed"
    | "/tasks/exit";
  readonly atMs: number;
}

/** In the order in which it was stored. */
export async function drillNews(tx: Tx, nodes: readonly string[], since: StoreMark): Promise<DrillNews[]> {
  if (nodes.length === 0) return [];
  return [
    ...(await tx.execute<DrillNews & Record<string, unknown>>(sql`
      select node, uid, topic, extract(epoch from stored_at)::float8 * 1000 as "atMs" from events
      where node in ${[...nodes]} ${after(since, "stored_at")}
        and (topic in ('/nodes/unknown', '/nodes/agent', '/tasks/fenced', '/tasks/stopped', '/tasks/failed')
          or topic = '/tasks/exit' and (attributes ->> 'exit_code')::int <= 128)
      order by id`)),
  ];
}
