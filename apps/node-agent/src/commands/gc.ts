/** `berthd gc` */
import { formatBytes } from "@berth/base/terminal";
import { GcService, RunGcResponseSchema } from "@berth/proto/host";
import { printJson, type Session } from "./session.ts";

const LONGEST_MS = 3_600_000;

export async function collect(session: Session): Promise<void> {
  const report = await session.client(GcService).runGc({}, { timeoutMs: LONGEST_MS });
  if (session.json) return printJson(session, RunGcResponseSchema, report);
  session.out(
    `${report.blobs} blobs and ${report.snapshots} snapshots removed, ${formatBytes(report.freedBytes)} freed`,
  );
}
