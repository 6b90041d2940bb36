/** D4, seen from the controller's events: every journal is whole. */
import assert from "node:assert/strict";
import type { Fleet } from "@berth/testkit";
import { eventsOf } from "./fleet.ts";

/** The stored entries of each node's journal epoch are 1, 2, 3 … up to the newest, each once, and their hashes hold. */
export async function journalsAreWhole(fleet: Fleet): Promise<void> {
  const byEpoch = new Map<string, number[]>();
  for (const { node, journalEpoch, journalSeq } of await eventsOf(fleet)) {
    if (journalEpoch === undefined || journalEpoch === "") continue;
    const key = `${node} ${journalEpoch}`;
    byEpoch.set(key, [...(byEpoch.get(key) ?? []), Number(journalSeq)]);
  }
  assert.ok(byEpoch.size > 0, "some entries came from a journal");
  for (const [epoch, seqs] of byEpoch) {
    const sorted = seqs.toSorted((a, b) => a - b);
    assert.deepEqual(
      sorted,
      sorted.map((_, index) => index + 1),
      `journal ${epoch}`,
    );
  }
  // And what is stored is what the nodes wrote: the command fails otherwise.
  for (const { name } of fleet.agents) await fleet.berth(["journal", "verify", name]);
}
