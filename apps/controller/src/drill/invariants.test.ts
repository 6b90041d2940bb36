/** Each invariant of a drill, kept and broken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DrilledTask, RunTimes } from "@berth/store";
import { changedEnds, doubleRuns, lostTasks, type Judged } from "./invariants.ts";

const task = (given: Partial<DrilledTask>): DrilledTask =>
  ({
    uid: "a",
    namespace: "demo",
    name: "web-a",
    workloadUid: "w",
    slot: 0,
    desired: "Run",
    phase: "Running",
    attempt: 1,
    fence: true,
    ...given,
  }) as DrilledTask;

const successor = task({ uid: "b", name: "web-b" });

function judged(before: readonly DrilledTask[], now: readonly DrilledTask[], generation = 1): Judged {
  return { before, now, generationsBefore: new Map([["w", 1]]), generationsNow: new Map([["w", generation]]) };
}

void test("lostTasks tells of what nobody stands in for, and not of what somebody changed meanwhile", () => {
  const gone = task({ desired: "Stop" });
  assert.deepEqual(lostTasks(judged([task({})], [gone])), [task({})]);
  assert.deepEqual(lostTasks(judged([task({})], [])), [task({})]);
  assert.deepEqual(lostTasks(judged([task({})], [gone, successor])), []);
  assert.deepEqual(lostTasks(judged([task({})], [], 2)), []);
  const deleted: Judged = { ...judged([task({})], []), generationsNow: new Map() };
  assert.deepEqual(lostTasks(deleted), []);
});

void test("changedEnds tells of an end that became another one, and not of another attempt", () => {
  const failed = task({ phase: "Failed" });
  assert.deepEqual(changedEnds(judged([failed], [task({ phase: "Running" })])), [
    "demo/web-a was Failed and is Running",
  ]);
  assert.deepEqual(changedEnds(judged([failed], [task({ phase: "Running", attempt: 2 })])), []);
  assert.deepEqual(changedEnds(judged([failed], [failed])), []);
});

void test("doubleRuns tells of a successor that began before the end of the one before it, or without one", () => {
  const input = judged([task({})], [task({ desired: "Stop" }), successor]);
  const times = (endedAtMs: number | undefined): ReadonlyMap<string, RunTimes> =>
    new Map([
      ["a", { startedAtMs: 0, endedAtMs }],
      ["b", { startedAtMs: 1_000, endedAtMs: undefined }],
    ]);
  const found = (endedAtMs: number | undefined): string[] => doubleRuns(input, times(endedAtMs));
  assert.deepEqual(found(1_000), []);
  assert.deepEqual(found(1_250), ["demo/web-a ended 250 ms after: web-b had begun in its place"]);
  assert.deepEqual(found(undefined), ["demo/web-a has not been seen to end: web-b had begun in its place"]);
  const free = judged([task({ fence: false })], input.now);
  assert.deepEqual(doubleRuns(free, times(1_250)), [], "one that may run twice");
});
