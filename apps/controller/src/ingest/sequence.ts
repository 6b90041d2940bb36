/**
 * Which entries come next. Pure.
 *
 * Order is (order of the epochs' appearance, seq). What is stored already is left out; what comes after a gap is not taken
 * before the gap is filled (D4).
 */
import type { JournalBatch, JournalEntry } from "@berth/proto";
import type { JournalState } from "@berth/store";
import type { PlacedEntry } from "./entries.ts";

export interface Gap {
  readonly node: string;
  readonly epoch: string;
  /** The first that is missing. */
  readonly fromSeq: number;
  /** The last that is missing. */
  readonly toSeq: number;
}

export interface Sequenced {
  readonly entries: readonly PlacedEntry[];
  /** The new watermark of each epoch that has moved. */
  readonly marks: ReadonlyMap<string, number>;
  /** Epochs that were not known, in the order of their appearance. */
  readonly newEpochs: readonly string[];
  readonly gaps: readonly Gap[];
  readonly duplicates: number;
}

/** Of one node: its batches in the order in which they came, and what is stored. */
export function sequence(
  node: string,
  batches: readonly JournalBatch[],
  states: readonly Pick<JournalState, "epoch" | "storedSeq">[],
): Sequenced {
  const stored = new Map(states.map((state) => [state.epoch, state.storedSeq]));
  const offered = new Map(states.map((state) => [state.epoch, new Map<number, JournalEntry>()]));
  const newEpochs: string[] = [];
  let duplicates = 0;
  for (const { epoch, entries } of batches) {
    let ofEpoch = offered.get(epoch);
    if (ofEpoch === undefined) {
      offered.set(epoch, (ofEpoch = new Map()));
      newEpochs.push(epoch);
    }
    for (const entry of entries) {
      const seq = Number(entry.seq);
      if (seq <= (stored.get(epoch) ?? 0) || ofEpoch.has(seq)) duplicates += 1;
      else ofEpoch.set(seq, entry);
    }
  }
  const taken: PlacedEntry[] = [];
  const marks = new Map<string, number>();
  const gaps: Gap[] = [];
  for (const [epoch, ofEpoch] of offered) {
    const before = stored.get(epoch) ?? 0;
    let last = before;
    for (let entry = ofEpoch.get(last + 1); entry !== undefined; entry = ofEpoch.get(last + 1)) {
      last += 1;
      taken.push({ node, epoch, seq: last, entry });
    }
    if (last > before) marks.set(epoch, last);
    const behind = [...ofEpoch.keys()].filter((seq) => seq > last);
    if (behind.length > 0) gaps.push({ node, epoch, fromSeq: last + 1, toSeq: behind.reduce(least) - 1 });
  }
  return { entries: taken, marks, newEpochs, gaps, duplicates };
}

const least = (a: number, b: number): number => Math.min(a, b);
