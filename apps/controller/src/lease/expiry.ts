/**
 * Notices silence. A node whose lease has run out is Unknown, and its tasks are unreachable: never failed
 * (D6, `certainty.ts`).
 *
 * Silence is only believed while we ourselves could hear: for a whole lease after a start, after Postgres was away and after
 * the bus was away, nobody is declared silent, for nobody could have renewed.
 */
import { expiredNodes, insertEvents, lockNodes, markSilent, type NodeRow, type Store } from "@berth/store";

/** Marks nodes silent whose lease has run out; returns them. */
export async function expireLeases(store: Store): Promise<NodeRow[]> {
  const names = await expiredNodes(store.db);
  if (names.length === 0) return [];
  return await store.transaction(async (tx) => {
    await lockNodes(tx, names);
    // protocol: NodeSilent
    const silent = await markSilent(tx, names);
    await insertEvents(
      tx,
      silent.map((row) => ({
        topic: "/nodes/unknown",
        kind: "Node",
        name: row.name,
        uid: row.uid,
        node: row.name,
        severity: "Warning",
        reason: "LeaseExpired",
        message: `not heard since ${row.leaseRenewedAt.toISOString()}; its tasks possibly run`,
      })),
    );
    return silent;
  });
}
