/** `berth cronjob`: a run now, and what became of the scheduled times. What its schedule is stands in its manifest. */
import { formatTable } from "@berth/base/terminal";
import { CronJobService, CronRunSchema } from "@berth/proto";
import { cronRunColumns } from "../output/columns.ts";
import { formatDocuments, parseOutput, toManifest } from "../output/format.ts";
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";
import { waitForWorkload } from "../wait.ts";

export async function runNow(
  session: Session,
  name: string,
  options: { readonly wait?: boolean; readonly timeout: string },
): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const namespace = session.namespace();
  const { workload } = await session.client(CronJobService).runCronJob({ namespace, name });
  session.out(`workload/${workload} ${session.paint.green("created")}`);
  if (options.wait === true) await waitForWorkload(session, namespace, workload, timeoutMs);
}

export async function runs(session: Session, name: string, options: { readonly output: string }): Promise<void> {
  const output = parseOutput(options.output);
  const { items } = await session.client(CronJobService).listCronRuns({ namespace: session.namespace(), name });
  if (output === "json" || output === "yaml") {
    const shown = items.map((item) => toManifest("CronRun", CronRunSchema, item));
    session.out(await formatDocuments(output, shown, false));
  } else if (items.length === 0) session.note("none of its times has come yet");
  else session.out(formatTable(cronRunColumns, items, { wide: output === "wide" }));
}
