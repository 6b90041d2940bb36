/**
 * What follows when a name goes to an agent with another data root: it knows nothing of what the one before ran, and that one's
 * journal may still come. So that each (task, generation, attempt) stays one execution (D2), and an end that the old journal tells
 * is none of what the new agent runs (D3), what must never run twice is begun there under new numbers.
 */
import {
  announceTasks,
  insertEvents,
  lockFencedOn,
  lockHold,
  numberedAfterRestore,
  updateTasks,
  type NewEvent,
  type TaskRow,
  type Tx,
} from "@berth/store";
import { nextAttempt } from "../reconcile/execution.ts";

/** @param names of nodes that this transaction has locked, at T or later */
export async function beginUnderNewNumbers(tx: Tx, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  // While a restored store is held, what nodes show decides (`restore/holdings.ts`).
  if (await lockHold(tx)) return;
  const rows = await lockFencedOn(tx, names);
  const updates = rows.map((before) => ({ before, patch: nextAttempt(before) }));
  const updated = await updateTasks(tx, await numberedAfterRestore(tx, updates));
  await announceTasks(tx, updated);
  await insertEvents(tx, updated.map(eventOf)); // prettier-ignore
}

function eventOf({ namespace, name, uid, node, attempt }: TaskRow): NewEvent {
  const message = `attempt ${attempt}: node ${node} has another data root, and what it ran before has ended by now`;
  return { namespace, topic: "/tasks/retry", kind: "Task", name, uid, node: node!, reason: "Restarted", message };
}
