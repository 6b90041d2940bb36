/** The nodes as the reconciler sees them, and the brakes on replacing what silent ones run. */
import { effectiveTaints } from "@berth/model";
import { fleetNodes, type FleetNodeRow, type Tx } from "@berth/store";
import { drainModeOf } from "../drain/mode.ts";
import type { FleetNode } from "./plan.ts";

export interface EvictionConfig {
  /** How long a node is silent before its tasks are replaced: the others' leases may be about to run out, too. */
  readonly evictAfterMs: number;
  /** Nodes that fall silent within so long of each other fell silent together. */
  readonly evictWindowMs: number;
}

export function evictionConfig(given: Partial<EvictionConfig>): EvictionConfig {
  return { evictAfterMs: given.evictAfterMs ?? 5_000, evictWindowMs: given.evictWindowMs ?? 60_000 };
}

export interface FleetView {
  readonly nodes: ReadonlyMap<string, FleetNode>;
  /** When a silent node's tasks may be replaced next. */
  readonly evictAt: Date | undefined;
  readonly braked: boolean;
}

export async function readFleetView(tx: Tx, config: EvictionConfig, now: Date): Promise<FleetView> {
  return fleetView(await fleetNodes(tx), config, now);
}

/** Pure, for {@link readFleetView}. */
export function fleetView(rows: readonly FleetNodeRow[], config: EvictionConfig, now: Date): FleetView {
  const braked = isBraked(rows, config.evictWindowMs);
  const nodes = new Map<string, FleetNode>();
  let evictAt: Date | undefined;
  for (const row of rows) {
    const silent = row.phase === "Unknown";
    const since = row.silentSince;
    const dueMs = since === null ? Number.POSITIVE_INFINITY : since.getTime() + config.evictAfterMs;
    const evict = silent && !braked && dueMs <= now.getTime();
    if (
      silent &&
      !evict &&
      Number.isFinite(dueMs) &&
      dueMs > now.getTime() &&
      (evictAt === undefined || dueMs < evictAt.getTime())
    ) {
      evictAt = new Date(dueMs);
    }
    const { name, effectiveLabels: labels, cordoned } = row;
    nodes.set(name, {
      name,
      labels,
      silent,
      cordoned,
      evict,
      drain: drainModeOf(row, now),
      taints: effectiveTaints(row),
    });
  }
  return { nodes, evictAt, braked };
}

const MIN_FLEET = 3;

/** More than half of the fleet fell silent together: it is rather we who are cut off. They stay so until they are back. */
function isBraked(rows: readonly FleetNodeRow[], windowMs: number): boolean {
  if (rows.length < MIN_FLEET) return false;
  const times = rows
    .flatMap((row) => (row.phase === "Unknown" && row.silentSince !== null ? [row.silentSince.getTime()] : []))
    .sort((a, b) => a - b);
  let first = 0;
  for (const [index, time] of times.entries()) {
    while (time - times[first]! > windowMs) first += 1;
    if ((index - first + 1) * 2 > rows.length) return true;
  }
  return false;
}
