/**
 * A store that was put back from a copy begins a new epoch and is held. It is noticed by itself (another database than the one
 * that it says it is), by an agent that is ahead of it, or by an operator's word.
 *
 * What follows: nodes show what they hold (`holdings.ts`), an operator confirms, and the hold ends (`release.ts`).
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { DEFAULT_STOP_GRACE_MS, fencedBy, hasEnded } from "@berth/model";
import {
  allNodes,
  beginStoreEpoch,
  getStoreMeta,
  hasStopper,
  insertEvents,
  isOriginal,
  tasksOutOfReach,
  taskStop,
  updateTasks,
  type Store,
  type TaskRow,
  type TaskUpdate,
  type Tx,
} from "@berth/store";
import { leaseOf } from "../lease/fenced-until.ts";

export interface HoldTerms {
  /** Of leases. */
  readonly ttlMs: number;
  /** Bound on how late a node's stopper is. */
  readonly slackMs: number;
}

/** Returns false when somebody else has done so. @param why follows "the store was put back from a copy: " */
export async function beginHold(
  tx: Tx,
  storeEpoch: string,
  terms: HoldTerms,
  found: { readonly why: string; readonly node?: string },
): Promise<boolean> {
  if (!(await beginStoreEpoch(tx, storeEpoch, terms.ttlMs))) return false;
  await updateTasks(tx, await laterBounds(tx, terms));
  const message =
    `the store was put back from a copy: ${found.why}. Nothing is stopped for being absent until an operator confirms the new ` +
    "store epoch, and nothing that must never run twice is begun until every node has shown what it runs";
  const about = { kind: "Store", name: "store", node: found.node ?? "", severity: "Warning" } as const;
  await insertEvents(tx, [{ ...about, topic: "/store/restored", reason: "StoreRestored", message }]);
  return true;
}

/** To be asked before anything is placed. Returns whether an epoch has begun. */
export async function noticeCopy(store: Store, terms: HoldTerms): Promise<boolean> {
  return await store.transaction(async (tx) => {
    if (await isOriginal(tx)) return false;
    const { storeEpoch } = await getStoreMeta(tx);
    return await beginHold(tx, storeEpoch, terms, { why: "it is another database than the one that it was" });
  });
}

/** T was reckoned from leases that were not the last ones: from now, nobody has a longer one. */
async function laterBounds(tx: Tx, { slackMs }: HoldTerms): Promise<TaskUpdate[]> {
  const rows = (await tasksOutOfReach(tx)).filter((row) => !hasEnded(row.phase));
  const nodes = new Map((await allNodes(tx)).map((node) => [node.name, node]));
  return rows.map((before) => {
    const node = before.node === null ? undefined : nodes.get(before.node);
    const bounded = before.fence && node !== undefined && hasStopper(node);
    const possiblyUntil = bounded ? fencedBy(leaseOf(node), graceOf(before), { slackMs }) : null;
    return { before, patch: { certainty: "unreachable", possiblyUntil } };
  });
}

function graceOf(row: TaskRow): number {
  const grace = taskStop(row)?.grace;
  return grace === undefined ? DEFAULT_STOP_GRACE_MS : durationMs(grace);
}
