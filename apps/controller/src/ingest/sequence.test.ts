import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { JournalBatchSchema, JournalEntrySchema, type JournalBatch } from "@berth/proto";
import { sequence } from "./sequence.ts";

const batch = (epoch: string, ...seqs: number[]): JournalBatch =>
  create(JournalBatchSchema, {
    node: "a",
    epoch,
    entries: seqs.map((seq) => create(JournalEntrySchema, { seq: BigInt(seq) })),
  });

const stored = (epoch: string, storedSeq: number) => [{ node: "a", epoch, ordinal: 1, storedSeq }];
const seqs = (entries: readonly { seq: number }[]): number[] => entries.map((entry) => entry.seq);

void test("sequence takes what follows, counts what is there already, and names the gap", () => {
  const next = sequence("a", [batch("e", 2, 3, 4), batch("e", 4, 5), batch("e", 8, 9)], stored("e", 3));
  assert.deepEqual(seqs(next.entries), [4, 5]);
  assert.equal(next.duplicates, 3);
  assert.deepEqual(next.gaps, [{ node: "a", epoch: "e", fromSeq: 6, toSeq: 7 }]);
  assert.deepEqual(next.marks, new Map([["e", 5]]));
  assert.deepEqual(next.newEpochs, []);
});

void test("sequence keeps epochs apart, in the order in which they appear", () => {
  const next = sequence("a", [batch("e2", 1), batch("e1", 1, 2), batch("e2", 2)], []);
  assert.deepEqual(next.newEpochs, ["e2", "e1"]);
  assert.deepEqual(next.marks, new Map([["e2", 2], ["e1", 2]])); // prettier-ignore
});

void test("sequence forgets a gap that a later batch fills", () => {
  assert.deepEqual(sequence("a", [batch("e", 3), batch("e", 1, 2, 3)], []).gaps, []);
});

void test("sequence is gap-free and without doubles whatever comes", () => {
  const anyBatch = fc.tuple(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 0, max: 8 }));
  fc.assert(
    fc.property(fc.array(anyBatch, { maxLength: 12 }), fc.integer({ min: 0, max: 10 }), (slices, last) => {
      const batches = slices.map(([from, count]) => batch("e", ...Array.from({ length: count }, (_, n) => from + n)));
      const next = sequence("a", batches, stored("e", last));
      assert.deepEqual(seqs(next.entries), Array.from({ length: next.entries.length }, (_, n) => last + 1 + n)); // prettier-ignore
      const given = new Set(batches.flatMap((each) => each.entries.map((entry) => Number(entry.seq))));
      const mark = last + next.entries.length;
      const behind = Math.max(0, ...given) > mark;
      assert.equal(next.gaps.length > 0, behind, "what was not taken lies behind a gap");
      for (const gap of next.gaps) assert.equal(gap.fromSeq, mark + 1);
    }),
  );
});
