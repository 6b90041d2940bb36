/**
 * Keeps the certainty of tasks in agreement with what is heard of their nodes (D6): observed while the node is heard,
 * unreachable while it is silent, fenced when the node must have ended the task by now (steps Silent and Fence; the formula of
 * T is `libs/model/src/fencing.ts`).
 *
 * All times are Postgres' own, so several controllers agree. A fenced task stays so when its node is back, until the node's
 * journal has spoken of it.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  becomeFenced,
  becomeObserved,
  becomeUnreachable,
  DEFAULT_STOP_GRACE_MS,
  fencedBy,
  type Certainty,
  type FencingTerms,
  type TaskPhase,
} from "@berth/model";
import {
  hasStopper,
  insertEvents,
  lockTasksByUid,
  nodesByName,
  tasksOfWrongCertainty,
  taskStop,
  updateTasks,
  type NewEvent,
  type NodeRow,
  type Store,
  type TaskRow,
  type TaskUpdate,
} from "@berth/store";
import { leaseOf } from "./fenced-until.ts";

const TASKS_PER_ROUND = 1_000;

/** Returns how many tasks were changed. */
export async function alignCertainty(store: Store, terms: FencingTerms): Promise<number> {
  let changed = 0;
  for (;;) {
    const uids = await tasksOfWrongCertainty(store.db, TASKS_PER_ROUND);
    if (uids.length === 0) return changed;
    const done = await store.transaction(async (tx) => {
      const rows = await lockTasksByUid(tx, uids);
      // Whether it is still so: looked at again under the lock.
      const wrong = new Set(await tasksOfWrongCertainty(tx, TASKS_PER_ROUND));
      const concerned = rows.filter((row) => wrong.has(row.uid));
      const nodes = await nodesByName(tx, [...new Set(concerned.map((row) => row.node!))]);
      const byName = new Map(nodes.map((node) => [node.name, node]));
      const updates = concerned.flatMap((row) => updateOf(row, byName.get(row.node!), terms));
      const updated = await updateTasks(tx, updates);
      await insertEvents(tx, updated.filter((row) => row.certainty === "fenced").map(fencedEvent));
      return updated.length;
    });
    changed += done;
    if (done === 0 || uids.length < TASKS_PER_ROUND) return changed;
  }
}

function updateOf(row: TaskRow, node: NodeRow | undefined, terms: FencingTerms): TaskUpdate[] {
  if (node === undefined) return [];
  const status = { phase: row.phase as TaskPhase, certainty: row.certainty as Certainty };
  if (node.phase !== "Unknown") {
    const heard = becomeObserved(status);
    return heard === status ? [] : [{ before: row, patch: { certainty: heard.certainty, possiblyUntil: null } }];
  }
  if (status.certainty === "unreachable") {
    return [{ before: row, patch: { certainty: becomeFenced(status).certainty } }];
  }
  const next = becomeUnreachable(status);
  const possiblyUntil = possiblyUntilOf(row, node, terms);
  return next === status ? [] : [{ before: row, patch: { certainty: next.certainty, possiblyUntil } }];
}

/** T; null where nothing bounds it. */
function possiblyUntilOf(row: TaskRow, node: NodeRow, terms: FencingTerms): Date | null {
  if (!row.fence || !hasStopper(node)) return null;
  const grace = taskStop(row)?.grace;
  const graceMs = grace === undefined ? DEFAULT_STOP_GRACE_MS : durationMs(grace);
  return fencedBy(leaseOf(node), graceMs, terms);
}

function fencedEvent({ namespace, name, uid, node }: TaskRow): NewEvent {
  const message = `its node ${node} is silent, and its stopper has ended it by now`;
  const subject = { namespace, name, uid, node: node ?? "", kind: "Task" } as const;
  return { ...subject, topic: "/tasks/fenced", severity: "Warning", reason: "Fenced", message };
}
