/** What placement weighs: the nodes, how full they are, where the tasks are that others ask of, and which images are where. */
import type { Requirement } from "@berth/model";
import type { JsonObject } from "@bufbuild/protobuf";
import { and, asc, eq, isNotNull, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { uuidIn } from "./placement.ts";
import { HOLDS_ROOM } from "./room.ts";
import { nodes, tasks, workloads } from "./schema/index.ts";
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
  readonly priority: number;
  /** A berth.v1.Placement, or null. */
  readonly placement: JsonObject | null;
}

const SPEC_COLUMNS = {
  uid: workloads.uid,
  namespace: workloads.namespace,
  priority: workloads.priority,
  placement: sql<JsonObject | null>`${workloads.spec} -> 'placement'`,
};

/** Where these workloads want to go. */
export function placementSpecs(tx: Tx, uids: readonly string[]): Promise<PlacementSpecRow[]> {
  return tx
    .select(SPEC_COLUMNS)
    .from(workloads)
    .where(
      sql`${workloads.uid} in (select value::uuid from jsonb_array_elements_text(${JSON.stringify(uids)}::jsonb))`,
    );
}

/** Workloads that keep others away: those that require anti-affinity, anywhere in the fleet. */
export function repellingSpecs(tx: Tx): Promise<PlacementSpecRow[]> {
  return tx
    .select(SPEC_COLUMNS)
    .from(workloads)
    .where(sql`${workloads.spec} -> 'placement' -> 'taskAntiAffinity' -> 'required' is not null`);
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
