/**
 * Tasks leave nodes with a NoExecute taint that they do not tolerate, or have borne for as long as they tolerate it. Their
 * workload makes others, which are placed elsewhere. An operator's taint goes before disruption budgets: `berth drain` minds
 * them. Tasks of a silent node stay what they are (D6).
 */
import { formatTaint, leaveByMs } from "@berth/model";
import {
  announceTasks,
  evictingNodes,
  insertEvents,
  lockPlacedOn,
  PLACEMENT_LOCK,
  tryTransactionLock,
  updateTasks,
  type NewEvent,
  type PlacementNodeRow,
  type Store,
  type TaskRow,
  type Tx,
  storeTime,
} from "@berth/store";
import { readRules } from "./fleet.ts";
import { stopPatch, victimTerms } from "./victim-terms.ts";

/** In how many milliseconds the next task must leave (infinite: none); undefined: another controller is at it. */
export async function evictTasks(store: Store, now?: Date): Promise<number | undefined> {
  if ((await evictingNodes(store.db)).length === 0) return Number.POSITIVE_INFINITY;
  return await store.transaction(async (tx) => {
    if (!(await tryTransactionLock(tx, PLACEMENT_LOCK))) return undefined;
    return await evictDue(tx, (now ?? (await storeTime(tx))).getTime());
  });
}

async function evictDue(tx: Tx, nowMs: number): Promise<number> {
  const nodes = new Map((await evictingNodes(tx)).map((row) => [row.name, row]));
  const rows = await lockPlacedOn(tx, [...nodes.keys()]);
  const rules = await readRules(tx, rows);
  const dueOf = (row: TaskRow): number => {
    const taints = nodes.get(row.node!)!.taints.map((taint) => ({ ...taint, addedAtMs: Date.parse(taint.addedAt) }));
    return leaveByMs(taints, rules.of(row).tolerations) ?? Number.POSITIVE_INFINITY;
  };
  const due = rows.filter((row) => dueOf(row) <= nowMs);
  const { holdsSlot } = await victimTerms(tx, [...new Set(due.map((row) => row.workloadUid))]);
  const stopped = await updateTasks(tx, due.map((before) => ({ before, patch: stopPatch(before, holdsSlot) }))); // prettier-ignore
  await announceTasks(tx, stopped);
  await insertEvents(tx, stopped.map((row) => eventOf(row, nodes.get(row.node!)!))); // prettier-ignore
  const later = rows.map(dueOf).filter((dueMs) => dueMs > nowMs);
  return later.reduce((least, dueMs) => Math.min(least, dueMs - nowMs), Number.POSITIVE_INFINITY);
}

function eventOf({ namespace, name, uid, node }: TaskRow, { taints }: PlacementNodeRow): NewEvent {
  const words = taints.filter(({ effect }) => effect === "NoExecute").map(formatTaint).join(", "); // prettier-ignore
  const message = `node ${node} has taint ${words}, which it does not tolerate`;
  const about = { namespace, kind: "Task", name, uid, node: node! } as const;
  return { ...about, topic: "/tasks/evict", severity: "Warning", reason: "Evicted", message };
}
