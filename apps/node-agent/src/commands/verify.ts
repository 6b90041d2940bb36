/** `berthd verify`: on the data root of an agent that does not run. */
import { join } from "node:path";
import { isDigest, Lifetime, StatusError } from "@berth/base";
import { formatBytes } from "@berth/base/terminal";
import type { VerifyOptions, VerifyProblem, VerifyProgress, VerifyReport } from "@berth/images";
import { lockDataRoot } from "../data-root-lock.ts";
import { openStores } from "../host.ts";
import { UsageError } from "./exit-code.ts";
import { localContext } from "./local.ts";
import type { GlobalOptions } from "./program.ts";
import type { Session } from "./session.ts";

export interface VerifyCommandOptions {
  readonly repair?: boolean;
  readonly layers?: boolean;
  readonly rate?: string;
  readonly after?: string;
}

const EVERY_MS = 1_000;
const UNITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/** Fails when something stays damaged. @throws FAILED_PRECONDITION `DATA_ROOT_IN_USE` beside a running agent */
export async function verify(session: Session, globals: GlobalOptions, options: VerifyCommandOptions): Promise<void> {
  const wanted = verifyOptions(session, options);
  const { config, path, logger } = await localContext(session, globals);
  await using lifetime = new Lifetime();
  lifetime.own(await lockDataRoot(join(config.root, "agent.lock")));
  const stores = await openStores(config, lifetime, { logger, path });
  const report = await stores.verify(wanted);
  print(session, report);
  if (!report.complete) session.note(`interrupted; go on with --after ${report.cursor ?? ""}`);
  const bad = report.problems.filter(({ outcome }) => outcome !== "mended").length;
  if (bad > 0)
    throw new StatusError("DATA_LOSS", `${bad} of what was committed is damaged`, { reason: "VERIFY_FAILED" });
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
