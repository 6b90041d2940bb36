/**
 * How a job stands. Pure: what was known and its tasks in, what is known now out. The plan (`plan-job.ts`) makes, retries and
 * stops tasks by it.
 *
 * Invariants:
 *  1. Complete and Failed are final for their revision, whatever becomes of the tasks' rows later. A new revision begins anew.
 *  2. A try counts as failed once: each before a task's present one, and the present one if it has failed. The tries of a task
 *     that was replaced (its node was lost) are forgotten with it: they say nothing of the work.
 *  3. Silence is not failure (D6): a silent node's task is active.
 */
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { hasEnded } from "@berth/model";
import { JobStatusSchema, type JobSpec, type JobStatus } from "@berth/proto";
import type { NewEvent, TaskRow, WorkloadRow } from "@berth/store";

export interface JobState {
  readonly revision: number;
  readonly phase: "Running" | "Complete" | "Failed";
  readonly succeeded: number;
  readonly failures: number;
  readonly active: number;
  readonly reason: string;
  readonly message: string;
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
}

export interface JobBounds {
  readonly completions: number;
  readonly parallelism: number;
  readonly retries: number;
}

export function jobBounds({ completions = 1, parallelism = 1, retries = 3 }: JobSpec): JobBounds {
  return { completions, parallelism, retries };
}

/** @param tasks those of the revision that are wanted */
export function evaluateJob(
  bounds: JobBounds,
  revision: number,
  tasks: readonly TaskRow[],
  before: JobStatus | undefined,
  now: Date,
): JobState {
  const known = before !== undefined && Number(before.revision) === revision ? before : undefined;
  const startedAt = known?.startedAt === undefined ? now : timestampDate(known.startedAt);
  const active = tasks.filter((row) => !hasEnded(row.phase) || row.nextAttemptAt !== null).length;
  if (known?.finishedAt !== undefined && (known.phase === "Complete" || known.phase === "Failed")) {
    const { phase, succeeded, failures, reason, message } = known;
    const finishedAt = timestampDate(known.finishedAt);
    return { revision, phase, succeeded, failures, active, reason, message, startedAt, finishedAt };
  }
  const succeeded = tasks.filter((row) => row.phase === "Succeeded").length;
  const failures = tasks.reduce((sum, row) => sum + row.attempt - 1 + (hasFailed(row) ? 1 : 0), 0);
  const counts = { revision, succeeded, failures, active, startedAt };
  if (succeeded >= bounds.completions) {
    return { ...counts, phase: "Complete", reason: "", message: "", finishedAt: now };
  }
  if (failures <= bounds.retries) return { ...counts, phase: "Running", reason: "", message: "", finishedAt: null };
  const last = tasks.filter(hasFailed).toSorted((a, b) => endOf(b) - endOf(a))[0];
  const why = last === undefined ? "" : `; ${last.name}: ${last.message || last.reason}`;
  const message = `${failures} tries have failed, ${bounds.retries} may${why}`;
  return { ...counts, phase: "Failed", reason: "RetriesExceeded", message, finishedAt: now };
}

export const hasFailed = (row: TaskRow): boolean =>
  hasEnded(row.phase) && row.phase !== "Succeeded" && row.reason !== "Fenced";

const endOf = (row: TaskRow): number => row.finishedAt?.getTime() ?? 0;

export function jobMessage(state: JobState): JobStatus {
  const { startedAt, finishedAt, revision, ...rest } = state;
  return create(JobStatusSchema, {
    ...rest,
    revision: BigInt(revision),
    startedAt: timestampFromDate(startedAt),
    ...(finishedAt === null ? {} : { finishedAt: timestampFromDate(finishedAt) }),
  });
}

export function jobEvents(workload: WorkloadRow, before: JobStatus | undefined, state: JobState): NewEvent[] {
  if (before?.phase === state.phase && Number(before.revision) === state.revision) return [];
  const { namespace, name, uid } = workload;
  const severity = state.phase === "Failed" ? "Warning" : "Normal";
  const message = state.message || `${state.succeeded} tasks have succeeded, ${state.failures} tries failed`;
  return [{ namespace, topic: "/workloads/job", kind: "Workload", name, uid, severity, reason: state.phase, message }];
}
