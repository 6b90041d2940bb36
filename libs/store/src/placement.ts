/** What placement reads: tasks without a node, and how full the nodes are. */
import { and, asc, eq, isNull, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import type { LockKey } from "./lock-keys.ts";
import { tasks } from "./schema/index.ts";
import type { TaskRow } from "./tasks.ts";

/** A lock until the transaction ends; false while another transaction has it. */
export async function tryTransactionLock(tx: Tx, [what, which]: LockKey): Promise<boolean> {
  const [row] = await tx.execute<{ ok: boolean }>(
    sql`select pg_try_advisory_xact_lock(${what}::int, ${which}::int) as ok`,
  );
  return row?.ok === true;
}

/** Tasks to be placed, oldest first, after one; locked. Those that somebody else is at are left for the next time. */
export function unplacedTasks(
  tx: Tx,
  after: { readonly createdAt: Date; readonly uid: string } | undefined,
  limit: number,
): Promise<TaskRow[]> {
  return tx
    .select()
    .from(tasks)
    .where(
      and(
        isNull(tasks.node),
        eq(tasks.desired, "Run"),
        after &&
          sql`(${tasks.createdAt}, ${tasks.uid}) > (${after.createdAt.toISOString()}::timestamptz, ${after.uid}::uuid)`,
      ),
    )
    .orderBy(asc(tasks.createdAt), asc(tasks.uid))
    .limit(limit)
    .for("update", { skipLocked: true });
}

export interface NodeLoad {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly tasks: number;
  readonly hostPorts: readonly string[];
}

/** What the tasks on each node declare: those that have not ended, or are to be tried again there. */
export async function nodeLoads(tx: Tx): Promise<ReadonlyMap<string, NodeLoad>> {
  const rows = await tx.execute<{
    node: string;
    cpu: string;
    memory: string;
    tasks: number;
    ports: string[] | null;
  }>(sql`
    select node, sum(cpu_millis)::text as cpu, sum(memory_bytes)::text as memory, count(*)::int as tasks,
      (select array_agg(port) from tasks p, unnest(p.host_ports) as port
        where p.node = t.node
          and (p.phase not in ('Succeeded', 'Failed', 'Stopped') or p.next_attempt_at is not null)) as ports
    from tasks t
    where node is not null and (phase not in ('Succeeded', 'Failed', 'Stopped') or next_attempt_at is not null)
    group by node`);
  return new Map(
    rows.map((row) => [
      row.node,
      { cpuMillis: Number(row.cpu), memoryBytes: Number(row.memory), tasks: row.tasks, hostPorts: row.ports ?? [] },
    ]),
  );
}

/** How many wanted tasks of these workloads each node has. */
export async function workloadSpread(
  tx: Tx,
  workloadUids: readonly string[],
): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
  const rows = await tx.execute<{ uid: string; node: string; count: number }>(sql`
    select workload_uid::text as uid, node, count(*)::int as count from tasks
    where node is not null and desired = 'Run'
      and workload_uid in (select value::uuid from jsonb_array_elements_text(${JSON.stringify(workloadUids)}::jsonb))
    group by workload_uid, node`);
  const spread = new Map<string, Map<string, number>>();
  for (const { uid, node, count } of rows) {
    let byNode = spread.get(uid);
    if (byNode === undefined) spread.set(uid, (byNode = new Map()));
    byNode.set(node, count);
  }
  return spread;
}

/** Where the workloads of these tasks may go, by the workload's uid. */
export async function workloadPlacements(
  tx: Tx,
  rows: readonly TaskRow[],
): Promise<ReadonlyMap<string, { readonly nodeSelector: Record<string, string>; readonly spreadBy: string }>> {
  const uids = JSON.stringify([...new Set(rows.map((row) => row.workloadUid))]);
  const found = await tx.execute<{ uid: string; selector: Record<string, string> | null; spread: string | null }>(sql`
    select uid::text as uid, spec -> 'placement' -> 'nodeSelector' as selector, spec -> 'placement' ->> 'spreadBy' as spread
    from workloads where uid in (select value::uuid from jsonb_array_elements_text(${uids}::jsonb))`);
  return new Map(found.map((row) => [row.uid, { nodeSelector: row.selector ?? {}, spreadBy: row.spread ?? "" }]));
}
