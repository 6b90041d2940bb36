/**
 * When a store that was put back may begin again what must never run twice: when it is confirmed, and every node is clean
 * (`holdings.ts`) or has been silent for so long that its stopper has ended all it could have run. Nodes that this store has never
 * heard of were given no lease since the epoch began: the same time passes for them.
 *
 * The model's step is `StoreReleased` (`test/model/stop-then-replace`).
 */
import { DEFAULT_STOP_GRACE_MS, fencedBy, MOST_FENCED_GRACE_MS } from "@berth/model";
import {
  allNodes,
  getStoreMeta,
  hasStopper,
  insertEvents,
  longestFencedGrace,
  releaseStore,
  setHoldings,
  storeTime,
  type NodeRow,
  type Store,
  type StoreMeta,
  type Tx,
} from "@berth/store";
import { leaseOf } from "../lease/fenced-until.ts";
import type { HoldTerms } from "./begin.ts";

export interface HoldWait {
  /** Empty: nodes that this store does not know. */
  readonly node: string;
  readonly why: string;
  readonly silent: boolean;
  /** It ends by itself then. */
  readonly until?: Date;
}

/** For whom the store waits, as it is now; nobody, when it is not held. */
export async function holdWaits(tx: Tx, terms: HoldTerms): Promise<HoldWait[]> {
  const meta = await getStoreMeta(tx);
  if (!meta.held) return [];
  const now = await storeTime(tx);
  const grace = await longestFencedGrace(tx, DEFAULT_STOP_GRACE_MS);
  return waitsOf(meta, await allNodes(tx), grace, terms, now);
}

/** `node-2 is silent; its stopper ends what must never run twice by then (12:30:05Z)` */
export function waitText({ node, why, until }: HoldWait): string {
  const by = until === undefined ? "" : ` (${until.toISOString().slice(11, 19)}Z)`;
  return `${node === "" ? "" : `node ${node} `}${why}${by}`;
}

/** Pure. */
export function waitsOf(
  { restoredAt }: StoreMeta,
  nodes: readonly NodeRow[],
  longestGraceMs: number,
  { ttlMs, slackMs }: HoldTerms,
  now: Date,
): HoldWait[] {
  const waits = nodes.flatMap((row): HoldWait[] => (row.holdings === "clean" ? [] : waitOf(row, slackMs, now)));
  const expiresAt = new Date((restoredAt?.getTime() ?? 0) + ttlMs);
  const until = fencedBy({ expiresAt, ttlMs }, longestGraceMs, { slackMs });
  if (now < until)
    waits.push({ node: "", silent: true, why: "nodes that joined after the copy was made, and are silent", until });
  return waits;
}

function waitOf(row: NodeRow, slackMs: number, now: Date): HoldWait[] {
  const { name } = row;
  if (row.phase !== "Unknown")
    return [{ node: name, silent: false, why: "has not shown yet that it runs only what this store names" }];
  if (!hasStopper(row))
    return [{ node: name, silent: true, why: "is silent, and its stopper was not working: nothing ends what it runs" }];
  const until = fencedBy(leaseOf(row), MOST_FENCED_GRACE_MS, { slackMs });
  return now < until
    ? [{ node: name, silent: true, why: "is silent; its stopper ends what must never run twice by then", until }]
    : [];
}

/** Ends the hold when it is time. Returns whether it did. */
export async function tryRelease(store: Store, terms: HoldTerms): Promise<boolean> {
  const seen = await getStoreMeta(store.db);
  if (!seen.held || !seen.stopsConfirmed) return false;
  if ((await holdWaits(store.db, terms)).length > 0) return false;
  return await store.transaction(async (tx) => {
    const { storeEpoch, stopsConfirmed } = await getStoreMeta(tx);
    if (storeEpoch !== seen.storeEpoch || !stopsConfirmed || (await holdWaits(tx, terms)).length > 0) return false;
    // protocol: StoreReleased
    if (!(await releaseStore(tx, storeEpoch))) return false;
    const message = "every node runs only what this store names, or has ended it: everything may be begun again";
    await insertEvents(tx, [
      { topic: "/store/released", kind: "Store", name: storeEpoch, reason: "StoreReleased", message },
    ]);
    return true;
  });
}

/** An operator's word that nothing runs on these nodes, which the transaction has locked. */
export async function releaseNodes(tx: Tx, nodes: readonly NodeRow[]): Promise<void> {
  await setHoldings(tx, nodes.map(({ name }) => name), "clean"); // prettier-ignore
  await insertEvents(
    tx,
    nodes.map(({ name, uid }) => ({
      topic: "/store/release",
      kind: "Node",
      name,
      uid,
      node: name,
      severity: "Warning",
      reason: "StoreWaitsNoLonger",
      message: "an operator says that nothing runs there: the restored store waits for it no longer",
    })),
  );
}
