/** The nodes as placement counts them: what they have, and what the tasks on them declare. */
import type { PlacementNode, SpreadCounts } from "@berth/model";
import { allNodes, nodeLoads, workloadSpread, type TaskRow, type Tx } from "@berth/store";

export interface Fleet {
  readonly nodes: readonly PlacementNode[];
  readonly spread: SpreadCounts;
}

export async function readFleet(tx: Tx, rows: readonly TaskRow[]): Promise<Fleet> {
  const loads = await nodeLoads(tx);
  const nodes = (await allNodes(tx)).map((row): PlacementNode => {
    const load = loads.get(row.name);
    return {
      name: row.name,
      ready: row.phase === "Ready",
      cordoned: row.cordoned,
      labels: row.effectiveLabels,
      runtimeHandlers: row.runtimeHandlers,
      snapshotters: row.snapshotters,
      cpuMillis: row.cpuMillis,
      memoryBytes: row.memoryBytes,
      maxTasks: row.maxTasks,
      usedCpuMillis: load?.cpuMillis ?? 0,
      usedMemoryBytes: load?.memoryBytes ?? 0,
      usedTasks: load?.tasks ?? 0,
      usedHostPorts: load?.hostPorts ?? [],
    };
  });
  const spread = await workloadSpread(tx, [...new Set(rows.map((row) => row.workloadUid))]);
  return { nodes, spread };
}
