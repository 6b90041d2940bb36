import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock, silentLogger } from "@berth/base";
import type { GcReport, GcRequest, GcTrigger } from "@berth/images";
import { startCollector, type CollectorConfig } from "./collector.ts";

const CONFIG: CollectorConfig = {
  startupDelayMs: 10_000,
  scheduleDelayMs: 2_000,
  mutationThreshold: 100,
  deletionThreshold: 5,
  intervalMs: 600_000,
  pauseThreshold: 0.02,
  checkDiskMs: 60_000,
};

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

function report(trigger: GcTrigger, more: Partial<GcReport>): GcReport {
  const none = { images: 0, leases: 0, blobs: 0, snapshots: 0, ingests: 0, freedBytes: 0 };
  const fixed = { dryRun: false, startedAtMs: 0, durationMs: 0, busyMs: 0, removed: [], kept: [] };
  return { trigger, ...fixed, ...none, ...more };
}

/** Past the collection of the start, with a state that a test changes. */
async function lab(given: Partial<CollectorConfig> = {}) {
  const clock = new ManualClock();
  const state = { mutations: 0, deletions: 0, pressing: false, grown: false, busyMs: 0, more: {} as Partial<GcReport> };
  const triggers: GcTrigger[] = [];
  const gc = {
    async run({ trigger = "request" }: GcRequest = {}) {
      triggers.push(trigger);
      state.mutations = state.deletions = 0;
      state.grown = false;
      return report(trigger, { busyMs: state.busyMs, ...state.more });
    },
    changes: () => ({ mutations: state.mutations, deletions: state.deletions }),
    isDiskPressing: () => state.pressing,
    isQuotaDue: () => state.grown,
  };
  const collector = startCollector({ gc, logger: silentLogger, clock }, { ...CONFIG, ...given });
  const pass = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second += 1) {
      await settle();
      clock.advance(1_000);
    }
    await settle();
  };
  await pass(10);
  assert.deepEqual(triggers.splice(0), ["startup"]);
  return { state, triggers, collector, pass };
}

test("startCollector makes one collection of several wishes, and none without any", async () => {
  const { triggers, collector, pass } = await lab();
  await using _collector = collector;
  await pass(60);
  assert.deepEqual(triggers, []);
  collector.want();
  collector.want();
  await pass(1);
  collector.want();
  await pass(10);
  assert.deepEqual(triggers, ["request"]);
});

test("startCollector collects after so many changes or deletions, and now and then", async () => {
  const { state, triggers, collector, pass } = await lab();
  await using _collector = collector;
  state.mutations = 99;
  state.deletions = 4;
  await pass(30);
  assert.deepEqual(triggers, []);
  state.mutations = 100;
  await pass(5);
  state.deletions = 5;
  await pass(5);
  assert.deepEqual(triggers.splice(0), ["mutations", "deletions"]);
  await pass(590);
  assert.deepEqual(triggers, []);
  await pass(20);
  assert.deepEqual(triggers, ["schedule"]);
});

test("startCollector collects soon after a namespace with a quota got an image", async () => {
  const { state, triggers, collector, pass } = await lab({ intervalMs: 0 });
  await using _collector = collector;
  state.busyMs = 1_000;
  state.grown = true;
  await pass(4);
  assert.deepEqual(triggers.splice(0), ["quota"]);
  state.grown = true;
  await pass(40);
  assert.deepEqual(triggers, [], "but not more often than its share of time allows");
  await pass(15);
  assert.deepEqual(triggers, ["quota"]);
});

test("startCollector keeps collections that nobody asked for within their share of time", async () => {
  const { state, triggers, collector, pass } = await lab();
  await using _collector = collector;
  state.busyMs = 1_000;
  state.mutations = 100;
  await pass(5);
  assert.deepEqual(triggers.splice(0), ["mutations"]);
  // A second on the event loop is 2 % of 50 seconds.
  state.mutations = 100;
  await pass(40);
  assert.deepEqual(triggers, []);
  collector.want();
  await pass(5);
  assert.deepEqual(triggers.splice(0), ["request"], "who asks does not wait for that");
  state.mutations = 100;
  await pass(55);
  assert.deepEqual(triggers, ["mutations"]);
});

test("startCollector collects when the disk runs full, but not all the time when that frees nothing", async () => {
  const { state, triggers, collector, pass } = await lab({ intervalMs: 0 });
  await using _collector = collector;
  state.pressing = true;
  state.more = { images: 3 };
  await pass(130);
  assert.ok(triggers.length >= 2, "while it frees something, at each look at the disk");
  assert.ok(triggers.every((trigger) => trigger === "watermark"));
  state.more = { images: 0 };
  await pass(60);
  triggers.length = 0;
  await pass(200);
  assert.deepEqual(triggers, []);
  await pass(150);
  assert.deepEqual(triggers, ["watermark"]);
});
