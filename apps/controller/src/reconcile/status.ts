/** What a workload's tasks amount to. Pure. */
import { create, equals, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { hasEnded } from "@berth/model";
import { ConditionSchema, WorkloadStatusSchema, type Condition, type WorkloadStatus } from "@berth/proto";
import type { TaskRow, WorkloadRow } from "@berth/store";
import { jobMessage, type JobState } from "./job.ts";
import { isUp } from "./plan-context.ts";
import { rolloutMessage, wordsOf } from "./rollout-status.ts";
import type { RolloutState } from "./rollout.ts";

/** @param generation of the tasks that have the spec's revision */
export function workloadStatusOf(
  workload: WorkloadRow,
  tasks: readonly TaskRow[],
  rollout: RolloutState,
  generation: number,
  before: WorkloadStatus,
  now: Date,
  job?: JobState,
): WorkloadStatus {
  const wanted = workload.deletedAt === null ? rollout.wanted : 0;
  const live = tasks.filter((row) => row.desired === "Run");
  const unknown = tasks.filter((row) => isDoubtful(row) && !hasEnded(row.phase)).length;
  const reachable = standIns(live, tasks).filter((row) => !isDoubtful(row) || hasEnded(row.phase));
  const inPhase = (phase: string): TaskRow[] => reachable.filter((row) => row.phase === phase && !row.nextAttemptAt);
  const running = inPhase("Running").length;
  const available = standIns(live, tasks).filter(isUp).length;
  const succeeded = inPhase("Succeeded").length;
  const failed = [...inPhase("Failed"), ...inPhase("Stopped")];
  const updated = live.filter((row) => row.workloadGeneration === generation).length;
  const counts: MessageInitShape<typeof WorkloadStatusSchema> = {
    observedGeneration: BigInt(workload.generation),
    desired: wanted,
    updated,
    running,
    pending: reachable.length - running - succeeded - failed.length,
    failed: failed.length,
    succeeded,
    unknown,
    available,
    ...(job === undefined ? { rollout: rolloutMessage(rollout) } : { job: jobMessage(job) }),
  };
  const ofJob = job === undefined ? [] : [finished("Complete", job), finished("Failed", job), scheduling(live)];
  const conditions =
    job !== undefined
      ? ofJob
      : [
          availability(wanted, available, succeeded, unknown, live, failed),
          scheduling(live),
          upToDate(wanted, updated, tasks.length - live.length),
          progressing(rollout),
          rolledBack(rollout),
        ];
  return create(WorkloadStatusSchema, { ...counts, conditions: withTimes(conditions, before.conditions, now) });
}

/** A task that leaves its node counts in its slot until its replacement runs: until then it does the work. */
function standIns(live: readonly TaskRow[], tasks: readonly TaskRow[]): TaskRow[] {
  const leaving = new Map(tasks.filter((row) => row.desired === "Leave" && isUp(row)).map((row) => [row.slot, row]));
  return live.map((row) => (isUp(row) ? row : (leaving.get(row.slot) ?? row)));
}

/** The same but for the times? */
export function sameWorkloadStatus(a: WorkloadStatus, b: WorkloadStatus): boolean {
  return equals(WorkloadStatusSchema, a, b);
}

/** Its node is silent; `fenced` says that it has been ended there by now. */
const isDoubtful = ({ certainty }: TaskRow): boolean => certainty === "unreachable" || certainty === "fenced";

type NewCondition = Readonly<Record<"type" | "status" | "reason" | "message", string>>;

function availability(
  wanted: number,
  available: number,
  succeeded: number,
  unknown: number,
  live: readonly TaskRow[],
  failed: readonly TaskRow[],
): NewCondition {
  const type = "Available";
  if (available + succeeded >= wanted) {
    return { type, status: "True", reason: "TasksAvailable", message: `${available} of ${wanted} tasks are available` };
  }
  if (available + succeeded + unknown >= wanted) {
    const message = `${unknown} of ${wanted} tasks are on silent nodes and possibly run`;
    return { type, status: "Unknown", reason: "NodesSilent", message };
  }
  const troubled =
    failed[0] ?? live.find((row) => row.nextAttemptAt !== null) ?? live.find((row) => row.message !== "");
  const why = troubled === undefined ? "" : `; ${troubled.name}: ${troubled.reason} ${troubled.message}`.trimEnd();
  return {
    type,
    status: "False",
    reason: "TasksMissing",
    message: `${available} of ${wanted} tasks are available${why}`,
  };
}

function scheduling(live: readonly TaskRow[]): NewCondition {
  const type = "Scheduled";
  const refused = live.filter((row) => row.node === null && row.reason === "NoNodeFits");
  if (refused.length > 0) return { type, status: "False", reason: "NoNodeFits", message: refused[0]!.message };
  const waiting = live.filter((row) => row.node === null).length;
  if (waiting > 0) return { type, status: "Unknown", reason: "Placing", message: `${waiting} tasks wait for a node` };
  return { type, status: "True", reason: "Placed", message: "" };
}

function upToDate(wanted: number, updated: number, stopping: number): NewCondition {
  const type = "UpToDate";
  if (updated >= wanted && stopping === 0) return { type, status: "True", reason: "RolledOut", message: "" };
  const message = `${updated} of ${wanted} tasks have the newest spec, ${stopping} are going away`;
  return { type, status: "False", reason: "RollingOut", message };
}

function finished(type: "Complete" | "Failed", { phase, reason, message }: JobState): NewCondition {
  const status = phase === type ? "True" : "False";
  return { type, status, reason: reason || phase, message };
}

function progressing(rollout: RolloutState): NewCondition {
  const { phase, reason } = rollout;
  const status = { Progressing: "True", RollingBack: "True", Paused: "Unknown" }[phase as string] ?? "False";
  return { type: "Progressing", status, reason: reason || phase, message: wordsOf(rollout) };
}

function rolledBack(rollout: RolloutState): NewCondition {
  const back = rollout.target !== rollout.revision;
  const words = back ? { reason: rollout.reason, message: wordsOf(rollout) } : { reason: "AsSpecified", message: "" };
  return { type: "RolledBack", status: back ? "True" : "False", ...words };
}

/** A condition's time is when its status changed last. */
function withTimes(conditions: readonly NewCondition[], before: readonly Condition[], now: Date): Condition[] {
  return conditions.map((condition) => {
    const known = before.find((each) => each.type === condition.type);
    const changedAt = known?.status === condition.status ? known.changedAt : timestampFromDate(now);
    return create(ConditionSchema, { ...condition, ...(changedAt === undefined ? {} : { changedAt }) });
  });
}
