/** Collection by the host door: of all namespaces, for it is the host's. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { GarbageCollection, GcCounters, GcItem, GcReport } from "@berth/images";
import { GcReportSchema, GcService, GcStatusSchema } from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";

export function gcService(gc: GarbageCollection): Implementation {
  return implement(GcService, {
    runGc: async ({ dryRun, details }, { signal }) => {
      const report = await gc.run({ trigger: "request", ...(details ? { details } : {}), dryRun, signal });
      return create(GcReportSchema, {
        ...countsOf(report),
        trigger: report.trigger,
        dryRun: report.dryRun,
        startedAt: timestampFromMs(report.startedAtMs),
        removed: report.removed.map(toItem),
        kept: report.kept.map(toItem),
        shortfall: report.shortfall ?? "",
      });
    },
    getGcStatus: async () => {
      const counters = gc.counters();
      const { mutations, deletions } = gc.changes();
      const begun = Object.entries(counters.collections).map(([trigger, count]) => [trigger, BigInt(count)] as const);
      return create(GcStatusSchema, {
        ...countsOf(counters),
        collections: Object.fromEntries(begun),
        failures: BigInt(counters.failures),
        mutations: BigInt(mutations),
        deletions: BigInt(deletions),
        diskPressing: gc.isDiskPressing(),
      });
    },
  });
}

function countsOf(counted: GcReport | GcCounters) {
  const { durationMs, busyMs, images, leases, blobs, snapshots, ingests, freedBytes } = counted;
  return {
    durationMs: BigInt(Math.round(durationMs)),
    busyMs,
    images: BigInt(images),
    leases: BigInt(leases),
    blobs: BigInt(blobs),
    snapshots: BigInt(snapshots),
    ingests: BigInt(ingests),
    freedBytes: BigInt(freedBytes),
  };
}

function toItem({ kind, namespace, key, bytes, reason }: GcItem) {
  return { kind, namespace, key, sizeBytes: BigInt(bytes), reason };
}
