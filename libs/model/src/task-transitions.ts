/**
 * What a journal entry makes of a task's status. Pure.
 *
 * Invariants:
 *  1. (generation, attempt) names an execution. An entry of any other execution than the current one changes nothing.
 *  2. Within an execution the phase only goes forward, and one that has ended stays as it ended.
 *  3. An entry applied twice is an entry applied once.
 *  4. Silence is not failure (D6): a silent node's tasks keep their phase, with certainty `unreachable`; an execution that is
 *     known to have ended is never unreachable. One that its node must have ended by now is `fenced`, until its journal says more.
 */

export const TASK_PHASES = [
  "Pending",
  "Assigned",
  "Pulling",
  "Starting",
  "Running",
  "Stopping",
  "Succeeded",
  "Failed",
  "Stopped",
] as const;
export type TaskPhase = (typeof TASK_PHASES)[number];

/**
 * observed: the agent said so. unreachable: the last that is known of a silent node. fenced: the same, and its node's stopper has
 * ended it by now. unknown: it ended, nobody knows how.
 */
export type Certainty = "observed" | "unreachable" | "fenced" | "unknown";

export const TASK_STEPS = [
  "accepted",
  "pulling",
  "creating",
  "started",
  "health",
  "exited",
  "failed",
  "stopping",
  "stopped",
  "removed",
] as const;
export type TaskStep = (typeof TASK_STEPS)[number];

/** What is known of one execution. */
export interface ExecutionStatus {
  readonly generation: number;
  readonly attempt: number;
  readonly phase: TaskPhase;
  readonly reason: string;
  readonly message: string;
  readonly certainty: Certainty;
  readonly exitCode: number | null;
  readonly oomKilled: boolean;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
  readonly addresses: readonly string[];
  readonly imageDigest: string;
  /** A word of {@link TaskHealth}. */
  readonly health: string;
  /** The node holds nothing of it any more. */
  readonly removed: boolean;
}

/** An entry of a journal, as far as it speaks of a task. */
export interface TaskStepEntry {
  readonly generation: number;
  readonly attempt: number;
  /** A word of {@link TASK_STEPS}; a newer agent's other words change nothing. */
  readonly step: string;
  readonly time: Date;
  readonly reason: string;
  readonly message: string;
  readonly exitCode: number | undefined;
  readonly oomKilled: boolean;
  readonly exitUnknown: boolean;
  readonly addresses: readonly string[];
  readonly imageDigest: string;
  readonly health: string;
}

const RANK: Readonly<Record<TaskPhase, number>> = {
  Pending: 0,
  Assigned: 1,
  Pulling: 2,
  Starting: 3,
  Running: 4,
  Stopping: 5,
  Succeeded: 6,
  Failed: 6,
  Stopped: 6,
};

export function hasEnded(phase: string): boolean {
  return phase === "Succeeded" || phase === "Failed" || phase === "Stopped";
}

/** What probes say of a running container; empty for one that has none. */
export type TaskHealth = "" | "starting" | "healthy" | "unhealthy";

/** Does it run, known to do so, and do its probes (if it has any) say that it does its work? */
export function isAvailable(status: {
  readonly phase: string;
  readonly certainty: string;
  readonly health: string;
}): boolean {
  const { phase, certainty, health } = status;
  return phase === "Running" && certainty === "observed" && (health === "" || health === "healthy");
}

export function isTaskStep(step: string): step is TaskStep {
  return (TASK_STEPS as readonly string[]).includes(step);
}

/** The status after the entry: the same object when it changes nothing. */
export function applyTaskStep<S extends ExecutionStatus>(status: S, entry: TaskStepEntry): S {
  if (entry.generation !== status.generation || entry.attempt !== status.attempt) return status;
  if (!isTaskStep(entry.step)) return status;
  if (hasEnded(status.phase)) {
    return entry.step === "removed" && !status.removed ? { ...status, removed: true } : status;
  }
  const patch = effectOf(entry.step, entry, status);
  if (patch.phase !== undefined && RANK[patch.phase] < RANK[status.phase]) return heardOf(status);
  const next: S = { ...status, ...patch };
  if (hasEnded(next.phase) && isDoubtful(next.certainty)) return { ...next, certainty: "observed" };
  const heard = heardOf(next);
  return sameStatus(status, heard) ? status : heard;
}

/** A fenced execution is spoken of: whether it ended is no longer ours to conclude. */
function heardOf<S extends Pick<ExecutionStatus, "certainty">>(status: S): S {
  return status.certainty === "fenced" ? { ...status, certainty: "observed" } : status;
}

const isDoubtful = (certainty: Certainty): boolean => certainty === "unreachable" || certainty === "fenced";

/** What the silence of its node makes of a task; the same object when that is nothing. */
export function becomeUnreachable<S extends Pick<ExecutionStatus, "phase" | "certainty">>(status: S): S {
  if (hasEnded(status.phase) || status.phase === "Pending" || isDoubtful(status.certainty)) return status;
  return { ...status, certainty: "unreachable" };
}

/** The time by which its node has ended it has passed; the same object when it is not waited for. */
export function becomeFenced<S extends Pick<ExecutionStatus, "phase" | "certainty">>(status: S): S {
  return status.certainty === "unreachable" ? { ...status, certainty: "fenced" } : status;
}

/** The node speaks again: what its journal said last is true of it. What was fenced stays so until its journal speaks of it. */
export function becomeObserved<S extends Pick<ExecutionStatus, "phase" | "certainty">>(status: S): S {
  return status.certainty === "unreachable" ? { ...status, certainty: "observed" } : status;
}

type Patch = Partial<ExecutionStatus>;

function effectOf(step: TaskStep, entry: TaskStepEntry, status: ExecutionStatus): Patch {
  const said: Patch = { reason: entry.reason, message: entry.message };
  switch (step) {
    case "accepted":
      return status.phase === "Pending" || status.phase === "Assigned" ? { ...said, phase: "Assigned" } : {};
    case "pulling":
      return { ...said, phase: "Pulling" };
    case "creating":
      return { ...said, phase: "Starting", ...digestOf(entry) };
    case "started":
      return {
        ...said,
        phase: "Running",
        startedAt: status.startedAt ?? entry.time,
        addresses: entry.addresses,
        health: entry.health,
        ...digestOf(entry),
      };
    case "health":
      return status.phase === "Running" ? { ...said, health: entry.health } : {};
    case "stopping":
      return { ...said, phase: "Stopping" };
    case "exited":
      return { ...exitOf(entry, status), finishedAt: entry.time, ...digestOf(entry) };
    case "failed":
      return {
        phase: "Failed",
        reason: entry.reason || "Error",
        message: entry.message,
        finishedAt: entry.time,
        ...(entry.exitCode === undefined ? {} : { exitCode: entry.exitCode }),
      };
    case "stopped":
    case "removed":
      return {
        phase: "Stopped",
        reason: entry.reason || "Stopped",
        message: entry.message,
        finishedAt: entry.time,
        ...(entry.exitCode === undefined ? {} : { exitCode: entry.exitCode }),
        ...(step === "removed" ? { removed: true } : {}),
      };
  }
}

function exitOf(entry: TaskStepEntry, status: ExecutionStatus): Patch {
  if (entry.exitUnknown) {
    const message = entry.message || "it has ended, and nobody is left who saw its exit code";
    return { phase: "Failed", certainty: "unknown", reason: entry.reason || "ExitUnknown", message };
  }
  const exitCode = entry.exitCode ?? null;
  const common: Patch = { exitCode, oomKilled: entry.oomKilled, message: entry.message };
  // It was asked to end, so its code says nothing of success.
  if (status.phase === "Stopping") return { ...common, phase: "Stopped", reason: entry.reason || "Stopped" };
  if (entry.oomKilled) return { ...common, phase: "Failed", reason: "OOMKilled" };
  if (exitCode === 0) return { ...common, phase: "Succeeded", reason: entry.reason || "Completed" };
  return { ...common, phase: "Failed", reason: entry.reason || "Error" };
}

const digestOf = (entry: TaskStepEntry): Patch => (entry.imageDigest === "" ? {} : { imageDigest: entry.imageDigest });

function sameStatus(a: ExecutionStatus, b: ExecutionStatus): boolean {
  return (Object.keys(b) as (keyof ExecutionStatus)[]).every((key) => {
    const [left, right] = [a[key], b[key]];
    if (left instanceof Date && right instanceof Date) return left.getTime() === right.getTime();
    if (Array.isArray(left) && Array.isArray(right)) return left.join("\n") === right.join("\n");
    return left === right;
  });
}
