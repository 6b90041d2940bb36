/**
 * Until when nodes possibly run what must never run twice, should they be silent from now on: T of the longest-lived of their
 * fenced tasks (`libs/model/src/fencing.ts`). Nothing of a node is given to another agent before.
 */
import { DEFAULT_STOP_GRACE_MS, fencedBy, type FencingTerms } from "@berth/model";
import { fencedGraces, hasStopper, type NodeRow, type Tx } from "@berth/store";

/** `unbounded`: its stopper was not working, so nothing ends what it runs. */
export type FencedUntil = Date | "unbounded";

/** By node; those that run nothing of the kind are not in it. The rows must be locked by this transaction. */
export async function fencedUntil(
  tx: Tx,
  nodes: readonly NodeRow[],
  terms: FencingTerms,
): Promise<ReadonlyMap<string, FencedUntil>> {
  if (nodes.length === 0) return new Map();
  const graces = await fencedGraces(tx, nodes.map(({ name }) => name), DEFAULT_STOP_GRACE_MS); // prettier-ignore
  return new Map(
    nodes.flatMap((row): [string, FencedUntil][] => {
      const graceMs = graces.get(row.name);
      if (graceMs === undefined) return [];
      return [[row.name, hasStopper(row) ? fencedBy(leaseOf(row), graceMs, terms) : "unbounded"]];
    }),
  );
}

export function leaseOf({ leaseRenewedAt, leaseExpiresAt }: Pick<NodeRow, "leaseRenewedAt" | "leaseExpiresAt">) {
  return { expiresAt: leaseExpiresAt, ttlMs: leaseExpiresAt.getTime() - leaseRenewedAt.getTime() };
}
