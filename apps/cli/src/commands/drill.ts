/**
 * `berth drill`: trouble on purpose, and what came of it. The nodes heal by themselves and the controllers judge, whatever becomes
 * of this command; it follows the drill through restarts of the controller, and `show` tells what was missed.
 */
import { toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { formatTable } from "@berth/base/terminal";
import {
  DrillSchema,
  DrillService,
  DrillStepSchema,
  type Drill,
  type DrillInvariant,
  type DrillReport,
  type DrillStep,
} from "@berth/proto";
import { ExitWith, UsageError } from "../exit-code.ts";
import { drillColumns } from "../output/columns.ts";
import { formatDocuments, parseOutput, toManifest, type Output } from "../output/format.ts";
import { formatTime, parseDurationMs } from "../output/units.ts";
import { persist } from "../persist.ts";
import type { Session } from "../session.ts";

export interface DrillOptions {
  readonly selector: string;
  /** Not of a kill. */
  readonly for?: string;
  readonly maxNodes: string;
  readonly dryRun?: boolean;
  readonly output: string;
}

export const partition = (session: Session, options: DrillOptions): Promise<void> => run(session, "partition", options);
export const pause = (session: Session, options: DrillOptions): Promise<void> => run(session, "pause", options);
export const kill = (session: Session, options: DrillOptions): Promise<void> => run(session, "kill", options);

async function run(session: Session, kind: string, options: DrillOptions): Promise<void> {
  const output = parseOutput(options.output);
  const maxNodes = Number(options.maxNodes);
  if (!Number.isSafeInteger(maxNodes) || maxNodes < 1) throw new UsageError("--max-nodes: say a number from 1 on");
  const duration = options.for === undefined ? {} : { duration: durationFromMs(parseDurationMs(options.for, "--for")) };
  const { selector, dryRun = false } = options;
  const request = { kind, selector, maxNodes, dryRun, ...duration };
  const client = session.client(DrillService);
  const { signal } = session;
  const [steps, end] = await tell(session, output, (known) => {
    const [first] = known;
    if (first === undefined) return client.runDrill(request, { signal });
    return client.watchDrill({ name: first.drill, after: known.length }, { signal });
  });
  if (output === "json" || output === "yaml") {
    session.out(await formatDocuments(output, steps.map((step) => toJson(DrillStepSchema, step)), false)); // prettier-ignore
  }
  if (!dryRun) end();
}

/**
 * Tells steps as they come, and where they can be had when this ends before they do.
 * @param open given the steps that are known
 * @returns all of them, and what fails unless the last one's report says that it passed
 */
async function tell(
  session: Session,
  output: Output,
  open: (known: readonly DrillStep[]) => AsyncIterable<DrillStep>,
): Promise<[readonly DrillStep[], () => void]> {
  const steps: DrillStep[] = [];
  const structured = output === "json" || output === "yaml";
  try {
    for await (const step of stepsOf(session, steps, open)) {
      steps.push(step);
      if (structured) session.note(lineOf(step));
      else showStep(session, step);
    }
  } finally {
    const last = steps.at(-1);
    if (last !== undefined && last.drill !== "" && last.report === undefined)
      session.note(`it goes on, and is judged: berth drill show ${last.drill} -w`);
  }
  return [steps, () => endWith(steps.at(-1)?.report?.verdict)];
}

/** What fails before anything is known fails at once: nobody knows whether a drill has begun. */
async function* stepsOf(
  session: Session,
  known: readonly DrillStep[],
  open: (known: readonly DrillStep[]) => AsyncIterable<DrillStep>,
): AsyncGenerator<DrillStep> {
  const opened = open(known)[Symbol.asyncIterator]();
  const first = await opened.next();
  if (first.done === true) return;
  yield first.value;
  let isFirst = true;
  yield* persist(session, () => {
    const stream = isFirst ? { [Symbol.asyncIterator]: () => opened } : open(known);
    isFirst = false;
    return stream;
  });
}

export async function list(session: Session, options: { readonly output: string }): Promise<void> {
  const output = parseOutput(options.output);
  const { items } = await session.client(DrillService).listDrills({});
  if (output === "json" || output === "yaml") {
    session.out(await formatDocuments(output, items.map(manifestOf), false));
  } else if (items.length === 0) session.note("there was no drill yet: berth drill --help");
  else session.out(formatTable(drillColumns(Date.now), items, { wide: output === "wide" }));
}

export async function show(
  session: Session,
  name: string,
  options: { readonly watch?: boolean; readonly output: string },
): Promise<void> {
  const output = parseOutput(options.output);
  const client = session.client(DrillService);
  const structured = output === "json" || output === "yaml";
  if (options.watch === true) {
    const { signal } = session;
    const [, end] = await tell(session, output, (known) =>
      client.watchDrill({ name, after: known.length }, { signal }),
    );
    if (structured) session.out(await formatDocuments(output, [manifestOf(await client.getDrill({ name }))], true));
    end();
    return;
  }
  const drill = await client.getDrill({ name });
  if (structured) {
    session.out(await formatDocuments(output, [manifestOf(drill)], true));
    return;
  }
  for (const step of drill.steps) showStep(session, step);
  if (drill.verdict === "") session.note(`it is under way: berth drill show ${name} -w`);
}

const manifestOf = (drill: Drill): Record<string, unknown> => toManifest("Drill", DrillSchema, drill);

function endWith(verdict: string | undefined): void {
  if (verdict !== "Passed") throw new ExitWith(1);
}

const lineOf = ({ at, step, message }: DrillStep): string => `${formatTime(at)}  ${step.padEnd(9)}  ${message}`;

function showStep(session: Session, step: DrillStep): void {
  session.out(lineOf(step));
  if (step.step === "Started") session.out(`  drill ${step.drill}`);
  if (step.report !== undefined) showReport(session, step.report);
}

function showReport(session: Session, { invariants }: DrillReport): void {
  for (const { name, outcome, message } of invariants) {
    session.out(`  ${outcomeOf(session, outcome)}  ${name}${message === "" ? "" : `: ${message}`}`);
  }
}

function outcomeOf({ paint }: Session, outcome: DrillInvariant["outcome"]): string {
  switch (outcome) {
    case "Held":
      return paint.green("held     ");
    case "NotTried":
      return paint.yellow("not tried");
    default:
      return paint.red("broken   ");
  }
}
