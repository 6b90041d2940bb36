/** The nodes as the reconciler sees them; the brakes on replacing what silent ones run are `eviction.ts`. */
import { effectiveTaints } from "@berth/model";
import { FleetNodes, type FleetNodeRow, type Tx } from "@berth/store";
import { drainModeOf } from "../drain/mode.ts";
import { evictionVerdicts, type EvictionConfig } from "./eviction.ts";
import type { FleetNode } from "./plan.ts";

export type { EvictionConfig } from "./eviction.ts";

export function evictionConfig(given: Partial<EvictionConfig>): EvictionConfig {
  return {
    evictAfterMs: given.evictAfterMs ?? 5_000,
    evictWindowMs: given.evictWindowMs ?? 60_000,
    evictPerMinute: given.evictPerMinute ?? 10,
    domainLabel: given.domainLabel ?? "berth.io/zone",
  };
}

export interface FleetView {
  readonly nodes: ReadonlyMap<string, FleetNode>;
  /** When a silent node's tasks may be replaced next. */
  readonly evictAt: Date | undefined;
}

/** The view, made anew only when the nodes or the time make it another one. */
export class FleetViews {
  readonly #config: EvictionConfig;
  readonly #nodes = new FleetNodes();
  #made: { readonly rows: readonly FleetNodeRow[]; readonly view: FleetView } | undefined;

  constructor(config: EvictionConfig) {
    this.#config = config;
  }

  async read(tx: Tx, now: Date): Promise<FleetView> {
    const rows = await this.#nodes.read(tx);
    if (this.#made?.rows === rows) return this.#made.view;
    const view = fleetView(rows, this.#config, now);
    this.#made = rows.some(dependsOnTime) ? undefined : { rows, view };
    return view;
  }
}

const dependsOnTime = (row: FleetNodeRow): boolean => row.phase === "Unknown" || row.drain !== null;

/** Pure, for {@link FleetViews}. */
export function fleetView(rows: readonly FleetNodeRow[], config: EvictionConfig, now: Date): FleetView {
  const verdicts = evictionVerdicts(rows, config, now);
  const all = [...verdicts.values()];
  const later = all.flatMap((verdict) => (!verdict.evict && verdict.at !== undefined ? [verdict.at.getTime()] : []));
  const nodes = rows.map((row): [string, FleetNode] => {
    const { name, effectiveLabels: labels, cordoned } = row;
    const evict = verdicts.get(name)?.evict === true;
    const taints = effectiveTaints(row);
    const drain = drainModeOf(row, now);
    const unshown = row.holdings === "wanted";
    return [name, { name, labels, silent: row.phase === "Unknown", unshown, cordoned, evict, drain, taints }];
  });
  return {
    nodes: new Map(nodes),
    evictAt: later.length === 0 ? undefined : new Date(Math.min(...later)),
  };
}
