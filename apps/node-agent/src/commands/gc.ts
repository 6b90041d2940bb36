/** `berthd gc` */
import { formatBytes } from "@berth/base/terminal";
import { GcItemSchema, GcReportSchema, GcService, GcStatusSchema, type GcItem, type GcReport } from "@berth/proto/host";
import { printFields, printJson, printList, shortDigest, type Session } from "./session.ts";

const LONGEST_MS = 3_600_000;

export interface GcOptions {
  readonly dryRun?: boolean;
  readonly details?: boolean;
}

export async function run(session: Session, options: GcOptions): Promise<void> {
  const request = { dryRun: options.dryRun ?? false, details: options.details ?? false };
  const report = await session.client(GcService).runGc(request, { timeoutMs: LONGEST_MS });
  if (session.json) return printJson(session, GcReportSchema, report);
  if (request.dryRun || request.details) {
    printItems(session, report.removed);
    if (request.details && report.kept.length > 0) {
      session.out("");
      printItems(session, report.kept);
    }
  }
  session.out(summary(report));
  if (report.shortfall !== "") session.note(report.shortfall);
}

export async function status(session: Session): Promise<void> {
  const counted = await session.client(GcService).getGcStatus({});
  if (session.json) return printJson(session, GcStatusSchema, counted);
  const begun = Object.entries(counted.collections).map(([trigger, count]) => `${count} by ${trigger}`);
  printFields(session, [
    ["Collections", begun.length === 0 ? "none" : begun.join(", ")],
    ["Failures", String(counted.failures)],
    ["Time", `${counted.durationMs} ms, ${Math.round(counted.busyMs)} ms of it on the event loop`],
    ["Removed", removed(counted)],
    ["Freed", formatBytes(counted.freedBytes)],
    ["Since then", `${counted.mutations} changes, ${counted.deletions} deletions`],
    ["Disk", counted.diskPressing ? "above its high watermark" : "not pressing"],
  ]);
}

function printItems(session: Session, items: readonly GcItem[]): void {
  printList(session, GcItemSchema, items, [
    { heading: "KIND", cell: ({ kind }) => kind },
    { heading: "NAMESPACE", cell: ({ namespace }) => namespace },
    { heading: "KEY", cell: ({ key }) => shortDigest(key) },
    { heading: "SIZE", cell: ({ sizeBytes }) => formatBytes(sizeBytes) },
    { heading: "WHY", cell: ({ reason }) => reason },
  ]);
}

function summary(report: GcReport): string {
  const [done, freed] = report.dryRun ? ["would be removed", "to be freed"] : ["removed", "freed"];
  return `${removed(report)} ${done}, ${formatBytes(report.freedBytes)} ${freed}`;
}

type Counts = Pick<GcReport, "images" | "leases" | "blobs" | "snapshots" | "ingests">;

function removed({ images, leases, blobs, snapshots, ingests }: Counts): string {
  const parts = [
    [images, "images"],
    [leases, "leases"],
    [blobs, "blobs"],
    [snapshots, "snapshots"],
    [ingests, "ingests"],
  ] as const;
  const some = parts.filter(([count]) => count > 0n).map(([count, what]) => `${count} ${what}`);
  return some.length === 0 ? "nothing" : some.join(", ");
}
