/**
 * Says when the brakes hold: which silent nodes are due and their tasks are not replaced, and why. What the brakes are is
 * `reconcile/eviction.ts`; the reconciler obeys them by itself, this only shows them (a condition of the node, an event of the
 * fleet when they begin to hold and when they let go).
 */
import {
  allNodes,
  insertEvents,
  lockNodes,
  setEvictionHolds,
  type NewEvent,
  type NodeRow,
  type Store,
  storeTime,
} from "@berth/store";
import { evictionVerdicts, type EvictionConfig } from "../reconcile/eviction.ts";

export async function alignHolds(store: Store, config: EvictionConfig, given?: Date): Promise<void> {
  const now = given ?? (await storeTime(store.db));
  const changed = changesOf(await allNodes(store.db), config, now);
  if (changed.length === 0) return;
  await store.transaction(async (tx) => {
    await lockNodes(tx, changed.map(({ name }) => name)); // prettier-ignore
    // Looked at again under the lock.
    const rows = await allNodes(tx);
    const changes = changesOf(rows, config, now);
    await setEvictionHolds(tx, changes);
    const after = new Map(rows.map((row) => [row.name, row.evictionHeld]));
    for (const { name, hold } of changes) after.set(name, hold);
    await insertEvents(tx, eventsOf(rows, [...after.values()]));
  });
}

function changesOf(
  rows: readonly NodeRow[],
  config: EvictionConfig,
  now: Date,
): { readonly name: string; readonly hold: string }[] {
  const verdicts = evictionVerdicts(rows, config, now);
  return rows.flatMap(({ name, evictionHeld }) => {
    const verdict = verdicts.get(name);
    const hold = verdict === undefined || verdict.evict ? "" : (verdict.hold ?? "");
    return hold === evictionHeld ? [] : [{ name, hold }];
  });
}

/** One event for a brake that begins to hold, one for a brake that lets go; not one for each node. */
function eventsOf(before: readonly NodeRow[], after: readonly string[]): NewEvent[] {
  const about = { topic: "/fleet/brakes", kind: "Fleet", name: "fleet" } as const;
  const reasons = new Set([...before.map((row) => row.evictionHeld), ...after].filter((reason) => reason !== ""));
  return [...reasons].flatMap((reason): NewEvent[] => {
    const held = before.filter((row) => row.evictionHeld === reason).length;
    const holds = after.filter((each) => each === reason).length;
    if (held === 0 && holds > 0) {
      const message = `of ${before.length} nodes ${holds} are silent and not replaced: see berth status`;
      return [{ ...about, severity: "Warning", reason, message }];
    }
    if (held > 0 && holds === 0) return [{ ...about, reason: `${reason}Over`, message: "the brake holds no more" }];
    return [];
  });
}
