/** What placement works on: tasks without a node, in the order in which they get one, and those that make room. */
import type { JsonObject } from "@bufbuild/protobuf";
import { and, asc, eq, isNotNull, isNull, sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import type { LockKey } from "./lock-keys.ts";
import { MAY_PLACE } from "./restore.ts";
import { HOLDS_ROOM } from "./room.ts";
import { tasks, workloads } from "./schema/index.ts";
import { selectTasks, selectTasksWith, type TaskRow } from "./task-rows.ts";
import { lockTasks } from "./tasks.ts";

/** A lock until the transaction ends; false while another transaction has it. */
export async function tryTransactionLock(tx: Tx, [what, which]: LockKey): Promise<boolean> {
  const [row] = await tx.execute<{ ok: boolean }>(
    sql`select pg_try_advisory_xact_lock(${what}::int, ${which}::int) as ok`,
  );
  return row?.ok === true;
}

/** Where a look at the unplaced tasks goes on. */
export interface UnplacedMark {
  readonly priority: number;
  readonly createdAt: Date;
  readonly uid: string;
}

export interface UnplacedTask {
  readonly row: TaskRow;
  readonly priority: number;
}

const UNPLACED = and(isNull(tasks.node), eq(tasks.desired, "Run"))!;
/** What a node is to be found for now. What a restored store holds back is not among it (`restore.ts`). */
const WAITS = and(UNPLACED, MAY_PLACE)!;
const OLDEST_FIRST = sql`order by ${tasks.createdAt}, ${tasks.uid}`;

/**
 * Tasks to be placed, those of higher priority first, then the oldest, after a mark; locked. Those that somebody else is at
 * are left for the next time.
 */
export async function unplacedTasks(tx: Tx, after: UnplacedMark | undefined, limit: number): Promise<UnplacedTask[]> {
  const behind =
    after &&
    sql`(-${workloads.priority}, ${tasks.createdAt}, ${tasks.uid}) >
      (${-after.priority}::int, ${after.createdAt.toISOString()}::timestamptz, ${after.uid}::uuid)`;
  const found = await selectTasksWith(
    tx,
    sql<number>`${workloads.priority}`,
    sql`join workloads on ${workloads.uid} = ${tasks.workloadUid} where ${and(WAITS, behind)}
      order by ${workloads.priority} desc, ${tasks.createdAt}, ${tasks.uid} limit ${limit} for update of tasks skip locked`,
  );
  return found.map(({ row, value: priority }) => ({ row, priority }));
}

/**
 * Every task of these workloads that waits for a node; locked. A workload is left out when somebody else holds one of its
 * tasks: what must be placed whole is placed when all of it is seen.
 */
export async function unplacedOf(tx: Tx, workloadUids: readonly string[]): Promise<ReadonlyMap<string, TaskRow[]>> {
  if (workloadUids.length === 0) return new Map();
  const ofThem = and(WAITS, uuidIn(tasks.workloadUid, workloadUids));
  const rows = await selectTasks(tx, sql`where ${ofThem} ${OLDEST_FIRST} for update skip locked`);
  const counts = await tx
    .select({ uid: tasks.workloadUid, count: sql<number>`count(*)::int` })
    .from(tasks)
    .where(ofThem)
    .groupBy(tasks.workloadUid);
  const found = Map.groupBy(rows, (row) => row.workloadUid);
  return new Map([...found].filter(([uid, own]) => counts.find((each) => each.uid === uid)?.count === own.length));
}

/** Every task of a workload that waits for a node. Not locked. */
export function waitingTasks(tx: Tx, workloadUid: string): Promise<TaskRow[]> {
  return selectTasks(tx, sql`where ${and(WAITS, eq(tasks.workloadUid, workloadUid))} ${OLDEST_FIRST}`);
}

/** Tasks for which room is being made. Not locked. */
export function nominatedTasks(tx: Tx): Promise<TaskRow[]> {
  return selectTasks(tx, sql`where ${and(WAITS, isNotNull(tasks.nominatedNode))} ${OLDEST_FIRST}`);
}

export interface PlacedRow {
  readonly uid: string;
  readonly workloadUid: string;
  readonly node: string;
  readonly priority: number;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly hostPorts: string[];
  readonly createdAt: Date;
  readonly leaving: boolean;
}

/** Tasks that hold room on a node and have a lower priority, or are leaving it. */
export async function tasksBelow(tx: Tx, priority: number): Promise<PlacedRow[]> {
  const rows = await tx
    .select({
      uid: tasks.uid,
      workloadUid: tasks.workloadUid,
      node: tasks.node,
      priority: sql<number>`coalesce(${workloads.priority}, 0)`,
      cpuMillis: tasks.cpuMillis,
      memoryBytes: tasks.memoryBytes,
      hostPorts: tasks.hostPorts,
      createdAt: tasks.createdAt,
      leaving: sql<boolean>`${tasks.desired} = 'Stop'`,
    })
    .from(tasks)
    .leftJoin(workloads, eq(workloads.uid, tasks.workloadUid))
    .where(
      and(
        isNotNull(tasks.node),
        HOLDS_ROOM,
        sql`(${tasks.desired} = 'Stop' or (${tasks.desired} = 'Run' and coalesce(${workloads.priority}, 0) < ${priority}))`,
      ),
    )
    .orderBy(asc(tasks.uid));
  return rows.map((row) => ({ ...row, node: row.node! }));
}

/** Wanted tasks on these nodes that have not ended, locked in the order of their uids. */
export function lockPlacedOn(tx: Tx, names: readonly string[]): Promise<TaskRow[]> {
  return lockTasks(
    tx,
    and(
      eq(tasks.desired, "Run"),
      HOLDS_ROOM,
      sql`${tasks.node} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`,
    )!,
  );
}

export function uuidIn(column: typeof tasks.workloadUid | typeof tasks.uid, uids: readonly string[]): SQL {
  return sql`${column} in (select value::uuid from jsonb_array_elements_text(${JSON.stringify(uids)}::jsonb))`;
}

export interface WorkloadSize {
  readonly uid: string;
  /** A berth.v1.WorkloadSpec. */
  readonly spec: JsonObject;
  /** Tasks that are wanted, and those of them that run and are heard of. */
  readonly live: number;
  readonly up: number;
}

export async function workloadSizes(tx: Tx, uids: readonly string[]): Promise<WorkloadSize[]> {
  return await tx
    .select({
      uid: workloads.uid,
      spec: workloads.spec,
      live: sql<number>`count(${tasks.uid})::int`,
      up: sql<number>`(count(*) filter (where ${tasks.phase} = 'Running' and ${tasks.certainty} = 'observed'))::int`,
    })
    .from(workloads)
    .leftJoin(tasks, and(eq(tasks.workloadUid, workloads.uid), eq(tasks.desired, "Run")))
    .where(sql`${workloads.uid} in (select value::uuid from jsonb_array_elements_text(${JSON.stringify(uids)}::jsonb))`)
    .groupBy(workloads.uid);
}
