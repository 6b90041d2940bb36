/** `berth drill`: trouble on purpose, and what came of it. The nodes heal by themselves, whatever becomes of this command. */
import { toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { DrillService, DrillStepSchema, type DrillReport, type DrillStep } from "@berth/proto";
import { ExitWith, UsageError } from "../exit-code.ts";
import { formatDocuments, parseOutput } from "../output/format.ts";
import { formatTime, parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";

export interface PartitionOptions {
  readonly selector: string;
  readonly for: string;
  readonly maxNodes: string;
  readonly dryRun?: boolean;
  readonly output: string;
}

export async function partition(session: Session, options: PartitionOptions): Promise<void> {
  const output = parseOutput(options.output);
  const maxNodes = Number(options.maxNodes);
  if (!Number.isSafeInteger(maxNodes) || maxNodes < 1) throw new UsageError("--max-nodes: say a number from 1 on");
  const duration = durationFromMs(parseDurationMs(options.for, "--for"));
  const { selector, dryRun = false } = options;
  const request = { selector, duration, maxNodes, dryRun };
  const steps: DrillStep[] = [];
  const structured = output === "json" || output === "yaml";
  for await (const step of session.client(DrillService).runDrill(request, { signal: session.signal })) {
    steps.push(step);
    const line = `${formatTime(step.at)}  ${step.step.padEnd(9)}  ${step.message}`;
    if (structured) session.note(line);
    else session.out(line);
  }
  if (structured) session.out(await formatDocuments(output, steps.map((step) => toJson(DrillStepSchema, step)), false)); // prettier-ignore
  const report = steps.at(-1)?.report;
  if (report !== undefined && !structured) showReport(session, report);
  if (report?.verdict === "Failed" || (report === undefined && !dryRun)) throw new ExitWith(1);
}

function showReport(session: Session, { invariants }: DrillReport): void {
  for (const { name, held, message } of invariants)
    session.out(
      `  ${held ? session.paint.green("held  ") : session.paint.red("broken")}  ${name}${message === "" ? "" : `: ${message}`}`,
    );
}
