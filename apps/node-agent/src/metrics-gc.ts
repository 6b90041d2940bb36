/** What collections did, by the image service's own counters, so that every one is counted, whichever door asked for it. */
import type { GarbageCollection, GcCounters } from "@berth/images";
import type { Metrics } from "@berth/telemetry";

const REMOVED = ["images", "leases", "blobs", "snapshots", "ingests"] as const;

export function registerGcMetrics(metrics: Metrics, gc: () => GarbageCollection | undefined): void {
  // Asked at a scrape, before the counters that are registered after it, it brings them up to date.
  let show: (now: GcCounters) => void = () => undefined;
  metrics.gauge({
    name: "berth_gc_pending_changes",
    help: "Changes and deletions since the last collection",
    labels: ["kind"],
    collect: (gauge) => {
      const source = gc();
      if (source === undefined) return;
      show(source.counters());
      const { mutations, deletions } = source.changes();
      gauge.set({ kind: "mutation" }, mutations);
      gauge.set({ kind: "deletion" }, deletions);
    },
  });
  const freed = metrics.counter({ name: "berth_gc_freed_bytes_total", help: "Bytes that collections gave back" });
  const failures = metrics.counter({ name: "berth_gc_failures_total", help: "Collections that failed" });
  const seconds = metrics.counter({ name: "berth_gc_seconds_total", help: "Time that collections took" });
  const busy = metrics.counter({
    name: "berth_gc_busy_seconds_total",
    help: "Time that collections took on the event loop",
  });
  const removed = metrics.counter({
    name: "berth_gc_removed_total",
    help: "What collections removed, by kind",
    labels: ["kind"],
  });
  const collections = metrics.counter({
    name: "berth_gc_collections_total",
    help: "Collections by what called for them",
    labels: ["trigger"],
  });
  let shown: GcCounters | undefined;
  show = (now) => {
    freed.add({}, now.freedBytes - (shown?.freedBytes ?? 0));
    failures.add({}, now.failures - (shown?.failures ?? 0));
    seconds.add({}, (now.durationMs - (shown?.durationMs ?? 0)) / 1_000);
    busy.add({}, (now.busyMs - (shown?.busyMs ?? 0)) / 1_000);
    for (const kind of REMOVED) removed.add({ kind }, now[kind] - (shown?.[kind] ?? 0));
    for (const [trigger, count] of Object.entries(now.collections)) {
      collections.add({ trigger }, count - (shown?.collections[trigger as keyof GcCounters["collections"]] ?? 0));
    }
    shown = now;
  };
}
