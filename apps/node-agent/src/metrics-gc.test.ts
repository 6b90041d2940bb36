import assert from "node:assert/strict";
import { test } from "node:test";
import type { GarbageCollection, GcCounters } from "@berth/images";
import { Metrics } from "@berth/telemetry";
import { registerGcMetrics } from "./metrics-gc.ts";

test("registerGcMetrics shows what the service has counted, once", async () => {
  const metrics = new Metrics();
  const nothing = {
    failures: 0,
    durationMs: 0,
    busyMs: 0,
    freedBytes: 0,
    images: 0,
    leases: 0,
    snapshots: 0,
    ingests: 0,
  };
  let counters: GcCounters = { ...nothing, collections: { startup: 1 }, blobs: 2, freedBytes: 100 };
  const gc: Pick<GarbageCollection, "counters" | "changes"> = {
    counters: () => counters,
    changes: () => ({ mutations: 7, deletions: 3 }),
  };
  let open = false;
  registerGcMetrics(metrics, () => (open ? (gc as GarbageCollection) : undefined));
  assert.doesNotMatch((await metrics.expose()).text, /berth_gc_removed_total\{/);
  open = true;
  await metrics.expose();
  counters = { ...counters, collections: { startup: 1, watermark: 2 }, blobs: 5, durationMs: 1_500, freedBytes: 300 };
  const { text } = await metrics.expose();
  for (const line of [
    'berth_gc_collections_total{trigger="startup"} 1',
    'berth_gc_collections_total{trigger="watermark"} 2',
    'berth_gc_removed_total{kind="blobs"} 5',
    "berth_gc_freed_bytes_total 300",
    "berth_gc_seconds_total 1.5",
    'berth_gc_pending_changes{kind="deletion"} 3',
  ]) {
    assert.ok(text.split("\n").includes(line), line);
  }
});
