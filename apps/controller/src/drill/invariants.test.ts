/** Each invariant of a drill, kept and broken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DrilledTask, DrillNews, RunTimes } from "@berth/store";
import { doubleRuns, lostTasks, noticed, replacedAfterT, wentOn, type Judged } from "./invariants.ts";
import { drillKind } from "./kinds.ts";

const task = (given: Partial<DrilledTask>): DrilledTask =>
  ({
    uid: "a",
    namespace: "demo",
    name: "web-a",
    workloadUid: "w",
    slot: 0,
    desired: "Run",
    phase: "Running",
    node: "n1",
    generation: 1,
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

const drill = (kind: string, durationMs: number) => ({
  kind: drillKind(kind),
  nodes: ["n1"],
  durationMs,
  healsMs: durationMs,
  before: { leaseMs: 15_000 },
});
const news = (topic: DrillNews["topic"], atMs = 0): DrillNews[] => [{ node: "n1", uid: "a", topic, atMs }];

void test("noticed says of a cut that nobody could notice that nothing was tested", () => {
  const seen = news("/nodes/unknown");
  assert.deepEqual(noticed({ drill: drill("partition", 20_000), news: seen }), { outcome: "Held", message: "" });
  const short = noticed({ drill: drill("pause", 15_000), news: [] });
  assert.deepEqual(short, {
    outcome: "NotTried",
    message: "the pause was shorter than the lease of 15 s: nothing was tested",
  });
  assert.equal(noticed({ drill: drill("partition", 30_000), news: [] }).outcome, "NotTried");
  assert.match(noticed({ drill: drill("partition", 33_000), news: [] }).message, /^node n1 was not noticed/);
  assert.equal(noticed({ drill: drill("kill", 0), news: news("/nodes/agent") }).outcome, "Held");
  assert.match(noticed({ drill: drill("kill", 0), news: seen }).message, /^no other agent came to n1/);
});

void test("replacedAfterT tells of a stopThenReplace task that stayed where it was past T, and of a cut that ended before", () => {
  const input = judged([task({})], [task({ certainty: "fenced" })]);
  const found = (given: { fencedAtMs?: number; replaced?: boolean; judged?: Judged }) =>
    replacedAfterT({
      judged: given.judged ?? input,
      drill: drill("partition", 60_000),
      news: given.fencedAtMs === undefined ? [] : news("/tasks/fenced", given.fencedAtMs),
      replaced: new Set(given.replaced === true ? ["demo/web-a"] : []),
    });
  assert.deepEqual(found({ fencedAtMs: 55_000 }), { outcome: "NotTried", message: "the cut ended before T, or just after" }); // prettier-ignore
  assert.match(
    found({ fencedAtMs: 45_000 }).message,
    /^demo\/web-a was not, though T had passed 15 s before the cut's end/,
  );
  assert.equal(found({ fencedAtMs: 45_000, replaced: true }).outcome, "Held");
  assert.equal(found({ judged: judged([task({ fence: false })], []) }).message, "no stopThenReplace task was there");
});

void test("wentOn tells of a container that did not outlive what was done to its agent", () => {
  const free = task({ fence: false });
  const found = (now: DrilledTask, begun = 0, given: readonly DrillNews[] = []) =>
    wentOn({
      judged: judged([free], [now]),
      news: given,
      starts: begun === 0 ? [] : [{ uid: "a", name: "web-a", generation: 1, attempt: 1, count: begun }],
    });
  assert.equal(found(free).outcome, "Held");
  assert.equal(found(free, 1).message, "demo/web-a began a second time");
  assert.match(found({ ...free, attempt: 2 }).message, /^demo\/web-a ended: attempt 1 ran, and attempt 2 is Running/);
  assert.equal(found({ ...free, phase: "Failed" }).outcome, "Broken");
  assert.equal(found({ ...free, phase: "Failed" }, 0, news("/tasks/exit")).outcome, "NotTried", "it ended by itself");
  const fenced = judged([task({})], [task({ attempt: 2 })]);
  assert.equal(wentOn({ judged: fenced, news: [], starts: [] }).outcome, "Broken");
  assert.equal(wentOn({ judged: fenced, news: news("/tasks/stopped"), starts: [] }).outcome, "NotTried");
});
