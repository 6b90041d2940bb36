/**
 * One look at one cron job that is due, in one transaction that holds its row: what its clock asks for is decided, recorded, and
 * a run that begins is made, all or nothing.
 *
 * Several controllers look at once: the row's lock keeps them apart, and the key of `cron_runs` (cron job, scheduled time) is the
 * guard beneath it. So each scheduled time makes at most one workload, whenever a controller dies.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import type { CronJobSpec } from "@berth/proto";
import {
  cronJobSpec,
  getWorkload,
  insertCronRun,
  insertEvents,
  insertWorkload,
  lockCronWorkloads,
  lockDueCronJob,
  lockNamespace,
  pruneCronRuns,
  updateCronJob,
  updateWorkload,
  workloadStatus,
  type CronJobRow,
  type CronRunRow,
  type NewEvent,
  type Tx,
  type WorkloadRow,
} from "@berth/store";
import { planCron, type Concurrency, type Decision } from "./plan-cron.ts";
import { parseSchedule } from "./schedule.ts";

export const CRON_JOB_LABEL = "berth.io/cron-job";

const KEPT_RUNS = 100;
/** While jobs are under way: how soon their end is noticed. */
const ACTIVE_LOOK_MS = 5_000;

/** False when none was due. */
export async function lookAtOne(tx: Tx, now: Date): Promise<boolean> {
  const row = await lockDueCronJob(tx, now);
  if (row === undefined) return false;
  const spec = cronJobSpec(row);
  const made = (await lockCronWorkloads(tx, row.uid)).filter(({ deletedAt }) => deletedAt === null);
  const running = made.filter((workload) => phaseOf(workload) === "Running");
  const plan = planCron({
    ...parseSchedule(spec.schedule, spec.timeZone),
    concurrency: (spec.concurrency || "Allow") as Concurrency,
    startingDeadlineMs: spec.startingDeadline === undefined ? undefined : durationMs(spec.startingDeadline),
    suspended: spec.suspend,
    decidedUntil: row.decidedUntil,
    active: running.length,
    now,
  });
  let active = running.length;
  for (const decision of plan.decisions) active += await carryOut(tx, row, spec, decision, running);
  await forget(tx, row, spec, made);
  const lookAt = active > 0 ? new Date(Math.min(plan.wakeAt.getTime(), now.getTime() + ACTIVE_LOOK_MS)) : plan.wakeAt;
  const started = plan.decisions.findLast(({ outcome }) => outcome === "Started");
  const times = { decidedUntil: plan.decidedUntil, nextAt: plan.wakeAt, lookAt, active };
  await updateCronJob(tx, row, { ...times, ...(started && { lastScheduledAt: started.at }) });
  return true;
}

/** Returns by how much more jobs are under way. */
async function carryOut(
  tx: Tx,
  row: CronJobRow,
  spec: CronJobSpec,
  decision: Decision,
  running: readonly WorkloadRow[],
): Promise<number> {
  const { at, outcome } = decision;
  const run = { cronUid: row.uid, scheduledAt: at, outcome };
  if (decision.outcome !== "Started") {
    await insertCronRun(tx, { ...run, message: decision.message });
    await insertEvents(tx, [eventOf(row, outcome, `${at.toISOString()}: ${decision.message}`)]);
    return 0;
  }
  const ended = decision.replaces ? running : [];
  const namespace = await lockNamespace(tx, row.namespace);
  if (namespace === undefined || namespace.deletedAt !== null) return 0;
  const name = runName(row.name, at);
  // Somebody else's, of the same name: to fail here would be to look at this cron job for ever, and at no other.
  if ((await getWorkload(tx, row.namespace, name)) !== undefined) {
    const message = `workload ${name}, which the run would be called, is there already`;
    await insertCronRun(tx, { cronUid: row.uid, scheduledAt: at, outcome: "Skipped", message });
    await insertEvents(tx, [eventOf(row, "Skipped", `${at.toISOString()}: ${message}`)]);
    return 0;
  }
  await begin(tx, row, spec, { at, name, ended });
  return 1 - ended.length;
}

/** A run that somebody asked for: whatever the clock says, and whether or not it is suspended. The row is locked. */
export async function runNow(tx: Tx, row: CronJobRow, at: Date, by: string): Promise<CronRunRow> {
  const spec = cronJobSpec(row);
  const made = (await lockCronWorkloads(tx, row.uid)).filter(({ deletedAt }) => deletedAt === null);
  const running = made.filter((workload) => phaseOf(workload) === "Running");
  const [before] = running;
  if (spec.concurrency === "Forbid" && before !== undefined) {
    const message = `cron job "${row.name}" runs one at a time and workload "${before.name}" is under way; wait for it, or delete it`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "CRON_JOB_RUNNING" });
  }
  const ended = spec.concurrency === "Replace" ? running : [];
  const name = `${row.name.slice(0, 52).replace(/-+$/, "")}-m${at.getTime().toString(36)}`;
  const run = await begin(tx, row, spec, { at, name, ended, by });
  await updateCronJob(tx, row, { active: running.length - ended.length + 1, lookAt: at });
  return run;
}

async function begin(
  tx: Tx,
  row: CronJobRow,
  spec: CronJobSpec,
  run: { readonly at: Date; readonly name: string; readonly ended: readonly WorkloadRow[]; readonly by?: string },
): Promise<CronRunRow> {
  const { at: scheduledAt, name, ended, by } = run;
  for (const workload of ended) await updateWorkload(tx, workload, { deletedAt: new Date() });
  const why = by === undefined ? "" : `asked for by ${by}`;
  const { uid } = await insertWorkload(tx, {
    namespace: row.namespace,
    name,
    labels: { ...row.labels, [CRON_JOB_LABEL]: row.name },
    spec: spec.template!,
    cause: `${row.name} at ${scheduledAt.toISOString()}${why && `, ${why}`}`,
  });
  const begun = { cronUid: row.uid, scheduledAt, outcome: "Started", message: why, workload: name, workloadUid: uid };
  await insertCronRun(tx, begun);
  await insertEvents(tx, [
    eventOf(row, "Started", `${scheduledAt.toISOString()}: workload ${name}${why && `, ${why}`}`),
  ]);
  return begun;
}

/** The minute in base 36: two times of a schedule never share it, and names sort by it. */
const runName = (name: string, at: Date): string =>
  `${name.slice(0, 54).replace(/-+$/, "")}-${Math.floor(at.getTime() / 60_000).toString(36)}`;

/** Deletes finished jobs beyond what is kept. */
async function forget(tx: Tx, row: CronJobRow, spec: CronJobSpec, made: readonly WorkloadRow[]): Promise<void> {
  const { successfulHistory = 3, failedHistory = 1 } = spec;
  const beyond = [
    ...made.filter((workload) => phaseOf(workload) === "Complete").slice(successfulHistory),
    ...made.filter((workload) => phaseOf(workload) === "Failed").slice(failedHistory),
  ];
  for (const workload of beyond) await updateWorkload(tx, workload, { deletedAt: new Date() });
  await pruneCronRuns(tx, row.uid, KEPT_RUNS);
}

const phaseOf = (workload: WorkloadRow): string => workloadStatus(workload).job?.phase ?? "Running";

function eventOf(row: CronJobRow, reason: string, message: string): NewEvent {
  const { namespace, name, uid } = row;
  const severity = reason === "Missed" ? "Warning" : "Normal";
  return { namespace, topic: "/cronjobs/run", kind: "CronJob", name, uid, severity, reason, message };
}
