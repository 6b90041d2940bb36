/**
 * `berthd verify`: by the agent if it runs, which alone may touch its stores then; else on its data root, locked.
 */
import { join } from "node:path";
import { isDigest, Lifetime, StatusError, type Digest } from "@berth/base";
import { formatBytes } from "@berth/base/terminal";
import type { VerifyOptions, VerifyProblem, VerifyProgress, VerifyReport } from "@berth/images";
import { CareService, type VerifyReport as ReportMessage } from "@berth/proto/host";
import { dataRootOwner, lockDataRoot } from "../data-root-lock.ts";
import { openStores } from "../host.ts";
import { UsageError } from "./exit-code.ts";
import { localContext, type LocalContext } from "./local.ts";
import type { GlobalOptions } from "./options.ts";
import type { Session } from "./session.ts";

export interface VerifyCommandOptions {
  readonly repair?: boolean;
  readonly layers?: boolean;
  readonly rate?: string;
  readonly after?: string;
}

const OUTCOMES = ["found", "mended", "unmended", "unchecked"] as const;
const EVERY_MS = 1_000;
const UNITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/** Fails when something stays damaged. */
export async function verify(session: Session, globals: GlobalOptions, options: VerifyCommandOptions): Promise<void> {
  const wanted = verifyOptions(session, options);
  const context = await localContext(session, globals);
  const running = await dataRootOwner(lockPath(context));
  const report = await (running === undefined ? verifyHere(context, wanted) : askAgent(session, wanted));
  print(session, report);
  if (!report.complete) session.note(`interrupted; go on with --after ${report.cursor ?? ""}`);
  const bad = report.problems.filter(({ outcome }) => outcome !== "mended").length;
  if (bad > 0)
    throw new StatusError("DATA_LOSS", `${bad} of what was committed is damaged`, { reason: "VERIFY_FAILED" });
}

function lockPath({ config }: LocalContext): string {
  return join(config.root, "agent.lock");
}

/** @throws FAILED_PRECONDITION `DATA_ROOT_IN_USE` if an agent was started meanwhile */
async function verifyHere(context: LocalContext, wanted: VerifyOptions): Promise<VerifyReport> {
  const { config, path, logger } = context;
  await using lifetime = new Lifetime();
  lifetime.own(await lockDataRoot(lockPath(context)));
  const stores = await openStores(config, lifetime, { logger, path });
  return await stores.verify(wanted);
}

async function askAgent(session: Session, wanted: VerifyOptions): Promise<VerifyReport> {
  const { repair, layers, rateBytesPerSecond, after, onProgress } = wanted;
  const request = {
    repair: repair === true,
    layers: layers === true,
    rateBytesPerSecond: BigInt(rateBytesPerSecond ?? 0),
    after: after ?? "",
  };
  let cursor = after;
  try {
    for await (const { event } of session.client(CareService).verify(request)) {
      if (event.case === "done") return fromReport(event.value, cursor);
      if (event.case !== "progress") continue;
      const { phase, done, total, readBytes } = event.value;
      if (isDigest(event.value.cursor)) cursor = event.value.cursor;
      const numbers = { done: Number(done), total: Number(total), readBytes: Number(readBytes), cursor };
      onProgress?.({ phase: phase === "layers" ? "layers" : "blobs", ...numbers });
    }
  } catch (error) {
    if (!session.signal.aborted) throw error;
    session.note(cursor === undefined ? "interrupted" : `interrupted; go on with --after ${cursor}`);
    throw error;
  }
  throw new StatusError("UNAVAILABLE", "berthd ended before all was verified; verify again", {
    reason: "VERIFY_CUT_OFF",
  });
}

function fromReport(report: ReportMessage, cursor: Digest | undefined): VerifyReport {
  const { blobs, readBytes, layers, problems } = report;
  return {
    blobs: Number(blobs),
    readBytes: Number(readBytes),
    layers: Number(layers),
    complete: true,
    cursor,
    problems: problems.map(({ kind, id, snapshotter, namespaces, images, what, outcome, why }) => ({
      kind: kind === "layer" ? "layer" : "blob",
      id,
      namespaces,
      images,
      what,
      outcome: OUTCOMES.find((known) => known === outcome) ?? "unchecked",
      ...(snapshotter === "" ? {} : { snapshotter }),
      ...(why === "" ? {} : { why }),
    })),
  };
}

function verifyOptions(session: Session, { repair, layers, rate, after }: VerifyCommandOptions): VerifyOptions {
  if (after !== undefined && !isDigest(after)) throw new UsageError(`--after ${JSON.stringify(after)} is no digest`);
  return {
    repair: repair === true,
    layers: layers === true,
    signal: session.signal,
    onProgress: progressNotes(session),
    ...(rate === undefined ? {} : { rateBytesPerSecond: parseRate(rate) }),
    ...(after === undefined ? {} : { after }),
  };
}

function parseRate(text: string): number {
  const [, number, unit] = /^([1-9][0-9]*)([kMG]?)$/.exec(text) ?? [];
  if (number === undefined) throw new UsageError(`--rate ${JSON.stringify(text)} is no size a second such as 50M`);
  return Number(number) * UNITS[unit ?? ""]!;
}

/** A line a second at most. */
function progressNotes(session: Session): (progress: VerifyProgress) => void {
  let nextMs = performance.now() + EVERY_MS;
  return ({ phase, done, total, readBytes }) => {
    if (performance.now() < nextMs) return;
    nextMs = performance.now() + EVERY_MS;
    session.note(`${phase}: ${done} of ${total}, ${formatBytes(readBytes)} read`);
  };
}

function print(session: Session, report: VerifyReport): void {
  if (session.json) return session.out(JSON.stringify(report, null, 2));
  for (const problem of report.problems) session.out(line(problem));
  const layers = report.layers > 0 ? `, ${report.layers} layers compared` : "";
  session.out(
    `${report.blobs} blobs hashed (${formatBytes(report.readBytes)})${layers}, ${report.problems.length} problems`,
  );
}

function line({ kind, id, snapshotter, what, outcome, why, images, namespaces }: VerifyProblem): string {
  const where = images.length > 0 ? images.join(", ") : namespaces.map((name) => `namespace ${name}`).join(", ");
  const of = snapshotter === undefined ? "" : ` of ${snapshotter}`;
  return `${outcome}: ${kind} ${id}${of} (${where}): ${what}${why === undefined ? "" : `; ${why}`}`;
}
