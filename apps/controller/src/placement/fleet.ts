/** The fleet as placement weighs it for one batch: nodes and their load, where the others are, and the rules of the tasks. */
import {
  ANYWHERE,
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
  const tasks = rows.map((row) => placementTask(row, rules.of(row)));
  const repellers = await readRepellers(tx);
  const loads = await nodeLoads(tx);
  const nodes = (await placementNodes(tx)).map((row) => placementNode(row, loads.get(row.name), overcommit));
  const workloadUids = new Set([
    ...[...rows, ...nominated].map(({ workloadUid }) => workloadUid),
    ...repellers.map(({ workloadUid }) => workloadUid),
  ]);
  const fleet: PlacementFleet = {
    nodes,
    placed: { workloads: await workloadSpread(tx, [...workloadUids]), terms: await readTerms(tx, rules.all) },
    repellers,
    warm: await warmNodes(tx, [...new Set(tasks.map(({ image }) => image))]),
    reservations: nominated.map((row) => placementTask(row, rules.of(row))),
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
    revision: row.workloadGeneration,
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

/** What tasks ask of placement. */
export interface RulesOfTasks {
  of(row: TaskRow): PlacementRules;
  readonly all: readonly PlacementRules[];
}

/**
 * A task is placed (and tolerates taints) by its own revision: while a rollout is held, or has gone back, that is not the spec's.
 * Its priority is its workload's, as that is now. A workload that is gone asks for nothing.
 */
export async function readRules(tx: Tx, rows: readonly TaskRow[]): Promise<RulesOfTasks> {
  const revisions = new Map(rows.map(({ workloadUid, workloadGeneration }) => [keyOf(workloadUid, workloadGeneration), { workloadUid, workloadGeneration }])); // prettier-ignore
  const found = revisions.size === 0 ? [] : await placementSpecs(tx, [...revisions.values()]);
  const rules = new Map(
    found.map(({ uid, generation, namespace, placement, priority }) => [
      keyOf(uid, generation),
      { ...rulesOf(placement, namespace), priority },
    ]),
  );
  return {
    of: (row) => rules.get(keyOf(row.workloadUid, row.workloadGeneration)) ?? ANYWHERE,
    all: [...rules.values()],
  };
}

const keyOf = (workloadUid: string, generation: number): string => `${workloadUid} ${generation}`;

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
