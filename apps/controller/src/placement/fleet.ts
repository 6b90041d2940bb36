/** The fleet as placement weighs it for one batch: nodes and their load, where the others are, and the rules of the tasks. */
import {
  effectiveTaints,
  termKey,
  type PlacementFleet,
  type PlacementNode,
  type PlacementRules,
  type PlacementTask,
  type Repeller,
  type TaskTerm,
} from "@berth/model";
import {
  hasStopper,
  nodeLoads,
  nominatedTasks,
  placementNodes,
  placementSpecs,
  repellingSpecs,
  selectedSpread,
  warmNodes,
  workloadSpread,
  type NodeLoad,
  type PlacementNodeRow,
  type TaskRow,
  type Tx,
} from "@berth/store";
import { imageKey } from "../ingest/warm-images.ts";
import { rulesOf } from "./rules.ts";

/** How much of a node may be promised where it does not say, in percent. */
export interface OvercommitConfig {
  readonly cpuPercent: number;
  readonly memoryPercent: number;
}

export const NO_OVERCOMMIT: OvercommitConfig = { cpuPercent: 100, memoryPercent: 100 };

export interface FleetForTasks {
  readonly fleet: PlacementFleet;
  /** In the order of the rows. */
  readonly tasks: readonly PlacementTask[];
}

export async function readFleet(
  tx: Tx,
  rows: readonly TaskRow[],
  overcommit: OvercommitConfig,
): Promise<FleetForTasks> {
  const nominated = await nominatedTasks(tx);
  const rules = await readRules(tx, [...rows, ...nominated]);
  const tasks = rows.map((row) => placementTask(row, rules.get(row.workloadUid)!));
  const repellers = await readRepellers(tx);
  const loads = await nodeLoads(tx);
  const nodes = (await placementNodes(tx)).map((row) => placementNode(row, loads.get(row.name), overcommit));
  const workloadUids = new Set([...rules.keys(), ...repellers.map(({ workloadUid }) => workloadUid)]);
  const fleet: PlacementFleet = {
    nodes,
    placed: { workloads: await workloadSpread(tx, [...workloadUids]), terms: await readTerms(tx, [...rules.values()]) },
    repellers,
    warm: await warmNodes(tx, [...new Set(tasks.map(({ image }) => image))]),
    reservations: nominated.map((row) => placementTask(row, rules.get(row.workloadUid)!)),
  };
  return { fleet, tasks };
}

export function placementNode(
  row: PlacementNodeRow,
  load: NodeLoad | undefined,
  fleet: OvercommitConfig,
): PlacementNode {
  return {
    name: row.name,
    labels: row.effectiveLabels,
    taints: effectiveTaints(row),
    runtimeHandlers: row.runtimeHandlers,
    snapshotters: row.snapshotters,
    stopper: hasStopper(row),
    cpuMillis: promised(row.cpuMillis, row.cpuOvercommit || fleet.cpuPercent),
    memoryBytes: promised(row.memoryBytes, row.memoryOvercommit || fleet.memoryPercent),
    maxTasks: row.maxTasks,
    usedCpuMillis: load?.cpuMillis ?? 0,
    usedMemoryBytes: load?.memoryBytes ?? 0,
    usedTasks: load?.tasks ?? 0,
    usedHostPorts: load?.hostPorts ?? [],
  };
}

const promised = (capacity: number, percent: number): number => Math.floor((capacity * percent) / 100);

export function placementTask(row: TaskRow, rules: PlacementRules): PlacementTask {
  const container = row.container as { image?: string; runtimeHandler?: string; snapshotter?: string };
  return {
    uid: row.uid,
    namespace: row.namespace,
    workloadUid: row.workloadUid,
    labels: row.labels,
    cpuMillis: row.cpuMillis,
    memoryBytes: row.memoryBytes,
    hostPorts: row.hostPorts,
    runtimeHandler: container.runtimeHandler ?? "",
    snapshotter: container.snapshotter ?? "",
    fence: row.fence,
    image: imageKey(container.image ?? ""),
    pinnedNode: row.pinnedNode,
    nominatedNode: row.nominatedNode,
    rules,
  };
}

/** Of every workload that has one of these tasks; a workload that is gone asks for nothing. */
export async function readRules(tx: Tx, rows: readonly TaskRow[]): Promise<Map<string, PlacementRules>> {
  const namespaces = new Map(rows.map((row) => [row.workloadUid, row.namespace]));
  const specs = await placementSpecs(tx, [...namespaces.keys()]);
  const rules = new Map(specs.map(({ uid, namespace, placement }) => [uid, rulesOf(placement, namespace)]));
  for (const [uid, namespace] of namespaces) if (!rules.has(uid)) rules.set(uid, rulesOf(null, namespace));
  return rules;
}

async function readRepellers(tx: Tx): Promise<Repeller[]> {
  return (await repellingSpecs(tx)).flatMap(({ uid, namespace, placement }) =>
    rulesOf(placement, namespace).taskAntiAffinity.required.map((term) => ({ workloadUid: uid, term })),
  );
}

async function readTerms(tx: Tx, rules: readonly PlacementRules[]): Promise<Map<string, Map<string, number>>> {
  const wanted = new Map<string, TaskTerm>();
  for (const { taskAffinity, taskAntiAffinity } of rules) {
    for (const { required, preferred } of [taskAffinity, taskAntiAffinity]) {
      for (const term of [...required, ...preferred.map((each) => each.term)]) wanted.set(termKey(term), term);
    }
  }
  const counts = new Map<string, Map<string, number>>();
  for (const [key, { namespace, selector }] of wanted) counts.set(key, await selectedSpread(tx, namespace, selector));
  return counts;
}
