/** `berth rollout`: how a new revision reaches the tasks, and what one may do about it. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { WorkloadService, type Workload, type WorkloadRevision } from "@berth/proto";
import { createLiveLines, formatBar, formatTable, type Column, type LiveLines } from "@berth/base/terminal";
import { toManifest, formatDocuments } from "../output/format.ts";
import { formatAge, parseDurationMs } from "../output/units.ts";
import { WorkloadRevisionSchema } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { workloadKind } from "../kinds.ts";
import type { Session } from "../session.ts";
import { waitForWorkload } from "../wait.ts";

export interface WaitOptions {
  readonly wait?: boolean;
  readonly timeout: string;
}

export async function status(
  session: Session,
  target: string,
  options: { readonly watch?: boolean; readonly timeout: string },
): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const { namespace, name } = named(session, target);
  const workload = await workloadKind.get(session, namespace, name);
  if (options.watch === true) return await followRollout(session, namespace, name, timeoutMs);
  session.out(statusLines(workload, 80).join("\n"));
}

export async function history(
  session: Session,
  target: string,
  options: { readonly revision?: string },
): Promise<void> {
  const { namespace, name } = named(session, target);
  const client = session.client(WorkloadService);
  const { items } = await client.listWorkloadRevisions({ namespace, name });
  if (options.revision !== undefined) {
    const wanted = parseRevision(options.revision, "--revision");
    const found = items.find(({ revision }) => Number(revision) === wanted);
    const kept = items.map(({ revision }) => revision).join(", ");
    if (found === undefined) throw new UsageError(`workload "${name}" keeps no revision ${wanted}; kept are ${kept}`);
    const shown = toManifest("WorkloadRevision", WorkloadRevisionSchema, found);
    session.out(await formatDocuments("yaml", [shown], true));
    return;
  }
  const workload = await workloadKind.get(session, namespace, name);
  session.out(formatTable(historyColumns(workload), items, { wide: false }).trimEnd());
}

export async function undo(
  session: Session,
  target: string,
  options: WaitOptions & { readonly toRevision?: string; readonly cause?: string },
): Promise<void> {
  const toRevision = options.toRevision === undefined ? 0n : BigInt(parseRevision(options.toRevision, "--to-revision"));
  await act(session, target, options, "undone", (client, named) =>
    client.undoRollout({ ...named, toRevision, cause: options.cause ?? "" }),
  );
}

export async function restart(
  session: Session,
  target: string,
  options: WaitOptions & { readonly cause?: string },
): Promise<void> {
  await act(session, target, options, "restarted", (client, named) =>
    client.restartRollout({ ...named, cause: options.cause ?? "" }),
  );
}

export async function pause(session: Session, target: string): Promise<void> {
  await act(session, target, { timeout: "0s" }, "paused", (client, named) => client.pauseRollout(named));
}

export async function resume(session: Session, target: string, options: WaitOptions): Promise<void> {
  await act(session, target, options, "resumed", (client, named) => client.resumeRollout(named));
}

/** Until the newest revision is rolled out. @throws FAILED_PRECONDITION `ROLLOUT_FAILED` when it was not */
export async function followRollout(
  session: Session,
  namespace: string,
  name: string,
  timeoutMs: number,
): Promise<void> {
  const live = session.stderr.isTTY && session.env["TERM"] !== "dumb" ? createLiveLines(session.stderr) : undefined;
  let told = "";
  try {
    await waitForWorkload(session, namespace, name, timeoutMs, (workload) => {
      const line = summary(workload);
      if (live !== undefined) draw(live, workload);
      else if (line !== told) session.out(line);
      told = line;
    });
  } finally {
    live?.finish();
  }
  if (live !== undefined) session.out(told);
}

type Client = ReturnType<typeof clientOf>;
const clientOf = (session: Session) => session.client(WorkloadService);

async function act(
  session: Session,
  target: string,
  options: WaitOptions,
  done: string,
  call: (client: Client, named: { readonly namespace: string; readonly name: string }) => Promise<Workload>,
): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const where = named(session, target);
  const workload = await call(clientOf(session), where);
  session.out(`workload/${where.name} ${session.paint.green(done)} (generation ${workload.metadata?.generation ?? 0})`);
  if (options.wait === true) await followRollout(session, where.namespace, where.name, timeoutMs);
}

function named(session: Session, target: string): { readonly namespace: string; readonly name: string } {
  return { namespace: session.namespace(), name: target.replace(/^(workloads?|wl)\//, "") };
}

function parseRevision(text: string, option: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`${option} ${JSON.stringify(text)} is no revision: see berth rollout history WORKLOAD`);
}

function draw(live: LiveLines, workload: Workload): void {
  live.update((columns) => statusLines(workload, columns).map((line) => line.slice(0, columns - 1)));
}

/** One line, for who does not redraw. */
function summary(workload: Workload): string {
  const { rollout, desired = 0, available = 0 } = workload.status ?? {};
  const name = workload.metadata?.name ?? "";
  const job = workload.status?.job;
  if (job !== undefined) {
    const why = job.message === "" ? "" : `: ${job.message}`;
    return `job/${name}: ${job.phase}, ${job.succeeded} of ${desired} succeeded, ${job.active} under way, ${job.failures} tries failed${why}`;
  }
  if (rollout === undefined) return `workload/${name}: not looked at yet`;
  const why = rollout.message === "" ? "" : `: ${rollout.message}`;
  const { phase, done, targetRevision } = rollout;
  return `workload/${name}: ${phase} revision ${targetRevision}, ${done} of ${desired} done, ${available} available${why}`;
}

const BAR_WIDTH = 30;

function statusLines(workload: Workload, columns: number): string[] {
  const status = workload.status;
  const rollout = status?.rollout;
  if (status === undefined || rollout === undefined) return [summary(workload)];
  const { phase, done, revision, targetRevision, stableRevision, message } = rollout;
  const share = status.desired === 0 ? 1 : Math.min(done, status.desired) / status.desired;
  const back = targetRevision === revision ? "" : ` (the spec says ${revision})`;
  const width = Math.min(BAR_WIDTH, Math.max(10, columns - 50));
  return [
    `workload/${workload.metadata?.name ?? ""}  ${phase}`,
    `  revision   ${targetRevision}${back}, last good ${stableRevision === 0n ? "none" : stableRevision}`,
    `  done       ${formatBar(share, width)} ${Math.min(done, status.desired)} of ${status.desired}`,
    `  tasks      ${status.updated} of the spec's revision, ${status.available} available, ${status.pending} pending, ${status.failed} failed${status.unknown > 0 ? `, ${status.unknown} possibly running` : ""}`,
    ...(message === "" ? [] : [`  why        ${rollout.reason}: ${message}`]),
    ...times(rollout),
  ];
}

function times(rollout: NonNullable<NonNullable<Workload["status"]>["rollout"]>): string[] {
  const { startedAt, finishedAt } = rollout;
  if (startedAt === undefined) return [];
  const begun = timestampDate(startedAt);
  const ended = finishedAt === undefined ? "" : `, took ${formatAge(startedAt, timestampDate(finishedAt).getTime())}`;
  return [`  began      ${begun.toISOString().slice(0, 19)}Z${ended}`];
}

function historyColumns(workload: Workload): readonly Column<WorkloadRevision>[] {
  const { revision = 0n, targetRevision = 0n, stableRevision = 0n, phase = "" } = workload.status?.rollout ?? {};
  const marks = (row: WorkloadRevision): string =>
    [
      row.revision === revision ? "spec" : "",
      row.revision === targetRevision ? "tasks" : "",
      row.revision === stableRevision ? "last good" : "",
      row.revision === revision && targetRevision !== revision ? phase.toLowerCase() : "",
    ]
      .filter(Boolean)
      .join(", ");
  return [
    { heading: "REVISION", cell: (row) => String(row.revision) },
    { heading: "AGE", cell: (row) => formatAge(row.createdAt, Date.now()) },
    { heading: "IMAGE", cell: (row) => row.spec?.container?.image ?? "" },
    { heading: "CAUSE", cell: (row) => row.cause || "-" },
    { heading: "IS", cell: (row) => marks(row) || "-" },
  ];
}
