/**
 * The nodes as looks at workloads need them, kept between looks: they change rarely and are looked at all the time.
 *
 * Invariant: what is given is no older than the moment of asking. A stamp over the names and resource versions of all nodes tells
 * whether anything has changed; whoever changes what a {@link FleetNodeRow} holds raises the version of its row. It is dropped by
 * its keeper when the store tells another history (`HISTORY` of `meta.ts`).
 */
import { asc, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import type { NodeRow } from "./node-message.ts";
import { nodes } from "./schema/index.ts";

/** There may be ten thousand nodes, so it is not all of their rows. */
export type FleetNodeRow = Pick<
  NodeRow,
  | "name"
  | "phase"
  | "silentSince"
  | "effectiveLabels"
  | "cordoned"
  | "drain"
  | "drainStartedAt"
  | "taints"
  | "conditions"
  | "holdings"
>;

export class FleetNodes {
  #stamp: string | undefined;
  #rows: readonly FleetNodeRow[] = [];

  /** In the order of their names; the very same array while nothing has changed. */
  async read(tx: Tx): Promise<readonly FleetNodeRow[]> {
    const stamp = await readStamp(tx);
    if (stamp === this.#stamp) return this.#rows;
    // Read after the stamp: what changed in between is in the rows already, and shows in the next stamp again.
    const rows = await readRows(tx);
    this.#stamp = stamp;
    this.#rows = rows;
    return rows;
  }
}

/** Of every row its uid, for a name may be given anew; the version is the seed of its hash. */
async function readStamp(tx: Tx): Promise<string> {
  const [row] = await tx.execute<{ stamp: string }>(sql`
    select count(*)::text || ' ' || coalesce(sum(hashtextextended(uid || name, resource_version)), 0)::text as stamp
    from nodes`);
  return row!.stamp;
}

function readRows(tx: Tx): Promise<FleetNodeRow[]> {
  const { name, phase, silentSince, effectiveLabels, cordoned, drain, drainStartedAt, taints, conditions, holdings } =
    nodes;
  const columns = {
    name,
    phase,
    silentSince,
    effectiveLabels,
    cordoned,
    drain,
    drainStartedAt,
    taints,
    conditions,
    holdings,
  };
  return tx.select(columns).from(nodes).orderBy(asc(name));
}
