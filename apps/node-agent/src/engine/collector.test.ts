import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock, silentLogger } from "@berth/base";
import { startCollector } from "./collector.ts";

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

function lab(freeShare: () => number) {
  const clock = new ManualClock();
  const counts = { collections: 0 };
  const images = {
    collect: async () => {
      counts.collections += 1;
      return { blobs: 1, snapshots: 0, freedBytes: 10 };
    },
  };
  const collector = startCollector({ images, freeShare, logger: silentLogger, clock });
  return { clock, counts, collector };
}

test("startCollector makes one collection of several wishes, and none without any", async () => {
  const { clock, counts, collector } = lab(() => 0.5);
  await using _collector = collector;
  await settle();
  clock.advance(60_000);
  await settle();
  assert.equal(counts.collections, 0);
  collector.want();
  collector.want();
  await settle();
  clock.advance(2_000);
  await settle();
  assert.equal(counts.collections, 1);
  clock.advance(60_000);
  await settle();
  assert.equal(counts.collections, 1);
});

test("startCollector collects when the disk runs full, but not all the time", async () => {
  let free = 0.05;
  const { clock, counts, collector } = lab(() => free);
  await using _collector = collector;
  for (let minute = 0; minute < 7; minute += 1) {
    await settle();
    clock.advance(60_000);
  }
  await settle();
  assert.equal(counts.collections, 2);
  free = 0.5;
  clock.advance(600_000);
  await settle();
  assert.equal(counts.collections, 2);
});
