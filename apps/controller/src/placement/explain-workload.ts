/** Why a workload's tasks are where they are: those of the same fate together, how they are spread, and what the first waits for. */
import { create } from "@bufbuild/protobuf";
import { WorkloadExplanationSchema, type WorkloadExplanation } from "@berth/proto";
import { placementNodes, tasksOfWorkload, type PlacementNodeRow, type TaskRow, type Tx, type WorkloadRow } from "@berth/store"; // prettier-ignore
import { explainTask } from "./explain.ts";
import { readRules, type OvercommitConfig } from "./fleet.ts";

const MOST_TASKS_NAMED = 5;
const MOST_GROUPS = 50;
const MOST_DOMAINS = 50;

export async function explainWorkload(
  tx: Tx,
  workload: WorkloadRow,
  overcommit: OvercommitConfig,
): Promise<WorkloadExplanation> {
  const tasks = (await tasksOfWorkload(tx, workload.uid)).filter((row) => row.desired === "Run");
  const waiting = tasks.filter((row) => row.node === null);
  const rules = tasks[0] === undefined ? undefined : (await readRules(tx, [tasks[0]])).of(tasks[0]);
  const keys = [...new Set([...(rules?.spread ?? []).map(({ topologyKey }) => topologyKey), ""])];
  const nodes = await placementNodes(tx);
  const [first] = waiting;
  return create(WorkloadExplanationSchema, {
    namespace: workload.namespace,
    workload: workload.name,
    priority: workload.priority,
    gang: rules?.gang ?? false,
    placed: tasks.length - waiting.length,
    waiting: waiting.length,
    groups: groupsOf(tasks),
    domains: keys.flatMap((key) => domainsOf(key, tasks, nodes)),
    ...(first === undefined ? {} : { waits: await explainTask(tx, first, overcommit, { node: "", allNodes: false }) }),
  });
}

/** Those that wait first, then the fullest nodes. */
function groupsOf(tasks: readonly TaskRow[]) {
  const groups = Map.groupBy(tasks, (row) =>
    row.node === null ? `? ${row.reason} ${row.message}` : `node ${row.node}`,
  );
  return [...groups.values()]
    .sort((a, b) => Number(a[0]!.node !== null) - Number(b[0]!.node !== null) || b.length - a.length)
    .slice(0, MOST_GROUPS)
    .map((rows) => ({
      node: rows[0]!.node ?? "",
      ...(rows[0]!.node === null ? { reason: rows[0]!.reason, message: rows[0]!.message } : {}),
      count: rows.length,
      tasks: rows.slice(0, MOST_TASKS_NAMED).map(({ name }) => name),
    }));
}

/** Of failure domains all, of nodes only those that have some. */
function domainsOf(topologyKey: string, tasks: readonly TaskRow[], nodes: readonly PlacementNodeRow[]) {
  const domainOf = (node: PlacementNodeRow): string =>
    topologyKey === "" ? node.name : (node.effectiveLabels[topologyKey] ?? "");
  const byName = new Map(nodes.map((node) => [node.name, domainOf(node)]));
  const counts = new Map<string, number>();
  for (const { node } of tasks) {
    const domain = node === null ? undefined : byName.get(node);
    if (domain !== undefined) counts.set(domain, (counts.get(domain) ?? 0) + 1);
  }
  const members = Map.groupBy(nodes, domainOf);
  return [...members]
    .map(([domain, of]) => ({ topologyKey, domain, tasks: counts.get(domain) ?? 0, nodes: of.length }))
    .filter((each) => topologyKey !== "" || each.tasks > 0)
    .sort((a, b) => b.tasks - a.tasks || (a.domain < b.domain ? -1 : 1))
    .slice(0, MOST_DOMAINS);
}
