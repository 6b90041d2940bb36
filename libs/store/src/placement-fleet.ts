/** What placement weighs: the nodes, how full they are, where the tasks are that others ask of, and which images are where. */
import type { Requirement } from "@berth/model";
import type { JsonObject } from "@bufbuild/protobuf";
import { and, asc, eq, isNotNull, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { uuidIn } from "./placement.ts";
import { HOLDS_ROOM } from "./room.ts";
import { nodes, tasks } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";

/** The columns that placement reads: a whole row of a node is several times that. */
const PLACEMENT_COLUMNS = {
  name: nodes.name,
  phase: nodes.phase,
  cordoned: nodes.cordoned,
  effectiveLabels: nodes.effectiveLabels,
  taints: nodes.taints,
  conditions: nodes.conditions,
  runtimeHandlers: nodes.runtimeHandlers,
  snapshotters: nodes.snapshotters,
  cpuMillis: nodes.cpuMillis,
  memoryBytes: nodes.memoryBytes,
  maxTasks: nodes.maxTasks,
  cpuOvercommit: nodes.cpuOvercommit,
  memoryOvercommit: nodes.memoryOvercommit,
};

export type PlacementNodeRow = Pick<typeof nodes.$inferSelect, keyof typeof PLACEMENT_COLUMNS>;

export function placementNodes(tx: Tx): Promise<PlacementNodeRow[]> {
  return tx.select(PLACEMENT_COLUMNS).from(nodes).orderBy(asc(nodes.name));
}

/** Nodes that tasks may have to leave: those with a NoExecute taint. What becomes of a silent node's is another's to say. */
export function evictingNodes(tx: Tx): Promise<PlacementNodeRow[]> {
  return tx
    .select(PLACEMENT_COLUMNS)
    .from(nodes)
    .where(sql`${nodes.taints} @> '[{"effect":"NoExecute"}]' and ${nodes.phase} <> 'Unknown'`)
    .orderBy(asc(nodes.name));
}

export interface NodeLoad {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly tasks: number;
  readonly hostPorts: readonly string[];
}

/** What the tasks on each node declare: those that have not ended, or are to be tried again there. */
export async function nodeLoads(tx: Tx): Promise<ReadonlyMap<string, NodeLoad>> {
  const rows = await tx
    .select({
      node: tasks.node,
      cpu: sql<string>`sum(${tasks.cpuMillis})::text`,
      memory: sql<string>`sum(${tasks.memoryBytes})::text`,
      tasks: sql<number>`count(*)::int`,
      ports: sql<string[]>`coalesce(jsonb_agg(${tasks.hostPorts}) filter (where ${tasks.hostPorts} <> '{}'), '[]')`,
    })
    .from(tasks)
    .where(and(isNotNull(tasks.node), HOLDS_ROOM))
    .groupBy(tasks.node);
  return new Map(
    rows.map((row) => [
      row.node!,
      {
        cpuMillis: Number(row.cpu),
        memoryBytes: Number(row.memory),
        tasks: row.tasks,
        hostPorts: row.ports.flat(),
      },
    ]),
  );
}

type CountsByNode = Map<string, number>;

/** How many wanted tasks of these workloads each node has. */
export async function workloadSpread(
  tx: Tx,
  workloadUids: readonly string[],
): Promise<ReadonlyMap<string, CountsByNode>> {
  const rows = await tx
    .select({ uid: tasks.workloadUid, node: tasks.node, count: sql<number>`count(*)::int` })
    .from(tasks)
    .where(and(isNotNull(tasks.node), eq(tasks.desired, "Run"), uuidIn(tasks.workloadUid, workloadUids)))
    .groupBy(tasks.workloadUid, tasks.node);
  const spread = new Map<string, CountsByNode>();
  for (const { uid, node, count } of rows) {
    let byNode = spread.get(uid);
    if (byNode === undefined) spread.set(uid, (byNode = new Map()));
    byNode.set(node!, count);
  }
  return spread;
}

/** How many tasks of a namespace that these labels select are on each node, those that are stopping among them. */
export async function selectedSpread(
  tx: Tx,
  namespace: string,
  selector: readonly Requirement[],
): Promise<CountsByNode> {
  const rows = await tx
    .select({ node: tasks.node, count: sql<number>`count(*)::int` })
    .from(tasks)
    .where(and(isNotNull(tasks.node), eq(tasks.namespace, namespace), HOLDS_ROOM, selectorSql(tasks.labels, selector)))
    .groupBy(tasks.node);
  return new Map(rows.map(({ node, count }) => [node!, count]));
}

export interface PlacementSpecRow {
  readonly uid: string;
  readonly namespace: string;
  /** Of the workload, as it is now. */
  readonly priority: number;
  /** A berth.v1.Placement, or null. */
  readonly placement: JsonObject | null;
}

export interface TaskRevision {
  readonly workloadUid: string;
  readonly workloadGeneration: number;
}

/**
 * Where tasks of these revisions want to go; those of a revision that is forgotten, as the workload's spec says now. Of a workload
 * that is gone there is no answer.
 */
export async function placementSpecs(
  tx: Tx,
  revisions: readonly TaskRevision[],
): Promise<(PlacementSpecRow & { readonly generation: number })[]> {
  const rows = await tx.execute<{
    uid: string;
    generation: string;
    namespace: string;
    priority: number;
    placement: JsonObject | null;
  }>(sql`
    select w.uid::text as uid, a."workloadGeneration"::text as generation, w.namespace, w.priority,
      case when r.workload_uid is null then w.spec -> 'placement' else r.template -> 'placement' end as placement
    from jsonb_to_recordset(${JSON.stringify(revisions)}::jsonb) as a("workloadUid" uuid, "workloadGeneration" bigint)
    join workloads w on w.uid = a."workloadUid"
    left join workload_revisions r on r.workload_uid = w.uid and r.generation = a."workloadGeneration"`);
  return rows.map((row) => ({ ...row, generation: Number(row.generation) }));
}

/** What keeps others away: required anti-affinity of workloads, anywhere in the fleet, and of the revisions that their tasks have. */
export async function repellingSpecs(tx: Tx): Promise<PlacementSpecRow[]> {
  const rows = await tx.execute<{ uid: string; namespace: string; priority: number; placement: JsonObject }>(sql`
    select uid::text as uid, namespace, priority, spec -> 'placement' as placement from workloads
    where spec -> 'placement' -> 'taskAntiAffinity' -> 'required' is not null
    union
    select w.uid::text, w.namespace, w.priority, r.template -> 'placement' from workload_revisions r
    join workloads w on w.uid = r.workload_uid
    where r.template -> 'placement' -> 'taskAntiAffinity' -> 'required' is not null
      and exists (select from tasks t where t.workload_uid = r.workload_uid and t.workload_generation = r.generation)`);
  return [...rows];
}

/** Which nodes have these images already, as their journals said. */
export async function warmNodes(tx: Tx, images: readonly string[]): Promise<ReadonlyMap<string, Set<string>>> {
  const rows = await tx.execute<{ image: string; node: string }>(sql`
    select image, node from node_images
    where image in (select jsonb_array_elements_text(${JSON.stringify(images)}::jsonb))`);
  const warm = new Map<string, Set<string>>();
  for (const { image, node } of rows) {
    let names = warm.get(image);
    if (names === undefined) warm.set(image, (names = new Set()));
    names.add(node);
  }
  return warm;
}

export interface NodeImage {
  readonly node: string;
  readonly image: string;
}

export async function addNodeImages(tx: Tx, rows: readonly NodeImage[]): Promise<void> {
  if (rows.length === 0) return;
  await tx.execute(sql`
    insert into node_images (node, image)
    select distinct node, image from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(node text, image text)
    on conflict do nothing`);
}

export async function removeNodeImages(tx: Tx, rows: readonly NodeImage[]): Promise<void> {
  if (rows.length === 0) return;
  await tx.execute(sql`
    delete from node_images i using jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as r(node text, image text)
    where i.node = r.node and i.image = r.image`);
}
