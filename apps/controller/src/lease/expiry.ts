/**
 * Notices silence. A node whose lease has run out is Unknown, and its tasks are unreachable: never failed (D6).
 *
 * Silence is only believed while we ourselves could hear: for a whole lease after a start, after Postgres was away and after
 * the bus was away, nobody is declared silent, for nobody could have renewed.
 */
import { becomeObserved, becomeUnreachable, type Certainty, type TaskPhase } from "@berth/model";
import {
  expiredNodes,
  insertEvents,
  lockNodes,
  lockTasksByUid,
  markSilent,
  tasksOfWrongCertainty,
  updateTasks,
  type NodeRow,
  type Store,
  type TaskUpdate,
} from "@berth/store";

const TASKS_PER_ROUND = 1_000;

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

/** Makes the certainty of tasks agree with the silence of their nodes; returns how many were changed. */
export async function alignCertainty(store: Store): Promise<number> {
  let changed = 0;
  for (;;) {
    const uids = await tasksOfWrongCertainty(store.db, TASKS_PER_ROUND);
    if (uids.length === 0) return changed;
    const done = await store.transaction(async (tx) => {
      const rows = await lockTasksByUid(tx, uids);
      // Whether it is still so: looked at again under the lock.
      const wrong = new Set(await tasksOfWrongCertainty(tx, TASKS_PER_ROUND));
      const updates = rows.filter((row) => wrong.has(row.uid)).flatMap((row): TaskUpdate[] => {
        const status = { phase: row.phase as TaskPhase, certainty: row.certainty as Certainty };
        const next = status.certainty === "unreachable" ? becomeObserved(status) : becomeUnreachable(status);
        return next === status ? [] : [{ before: row, patch: { certainty: next.certainty } }];
      }); // prettier-ignore
      return (await updateTasks(tx, updates)).length;
    });
    changed += done;
    if (done === 0 || uids.length < TASKS_PER_ROUND) return changed;
  }
}
