/**
 * How a workload's rollout stands, and what it is to be brought to. Pure: what was known, the tasks, the time in; what is known
 * now out. The plan (`plan-rollout.ts`) moves tasks towards the target; this alone says what the target is.
 *
 *   Progressing ─► Complete                      every slot has a task of the target that has been available for long enough
 *        │  ▲
 *        │  └──── Failed (on_failure: wait, or nothing to go back to); it goes on as far as it can
 *        └─► RollingBack ─► RolledBack           the target is the last good revision; the spec stays as it was applied
 *   Paused                                        from Progressing, Failed or RollingBack, and back by resuming
 *
 * Invariants:
 *  1. A new revision of the spec begins a new rollout, whatever the last one had come to.
 *  2. Complete and RolledBack are final for their revision: what tasks do later is health, not rollout.
 *  3. Time passes against a rollout only while it could go on: not while it is paused, and not while all that is missing is on
 *     silent nodes (D6: unreachable is not failed).
 *  4. It goes back at most once, and only to a revision that was rolled out in full.
 */
import { hasEnded, isAvailable, type RestartRule } from "@berth/model";
import type { TaskRow } from "@berth/store";
import { planRestart } from "./plan-restart.ts";
import type { RolloutBounds } from "./rollout-bounds.ts";

export type RolloutPhase = "Progressing" | "Paused" | "Complete" | "Failed" | "RollingBack" | "RolledBack";

export interface RolloutState {
  readonly revision: number;
  readonly target: number;
  /** The last revision that was rolled out in full; 0: none. */
  readonly stable: number;
  readonly phase: RolloutPhase;
  readonly reason: string;
  readonly message: string;
  /** The most tasks that have been done since it began (or since the number wanted changed). */
  readonly done: number;
  readonly wanted: number;
  readonly startedAt: Date;
  readonly progressedAt: Date;
  readonly finishedAt: Date | null;
}

export interface RolloutInput {
  readonly revision: number;
  readonly paused: boolean;
  readonly before: RolloutState | undefined;
  /** Of the tasks of a revision that is kept. */
  readonly generationOf: (revision: number) => number | undefined;
  /** The wanted tasks of the slots that are wanted: none that goes away, and no surge. */
  readonly tasks: readonly TaskRow[];
  /** The surge: what is the matter with it is the matter with the rollout. */
  readonly surge: readonly TaskRow[];
  readonly wanted: number;
  readonly restart: RestartRule;
  readonly bounds: RolloutBounds;
  readonly now: Date;
}

export interface RolloutOutcome {
  readonly state: RolloutState;
  /** When it is to be looked at again though nothing changes. */
  readonly wakeAt: Date | undefined;
}

export function evaluateRollout(input: RolloutInput): RolloutOutcome {
  const state = begun(input);
  if (state.phase === "Complete" || state.phase === "RolledBack") {
    return { state: { ...state, wanted: input.wanted }, wakeAt: undefined };
  }
  if (input.paused) return { state: paused(state, input.now), wakeAt: undefined };
  return advanced(input, measured(input, resumed(state, input.now)));
}

/** Has a task of the target been available for long enough? One that has done its work counts, too. */
export function isDone(row: TaskRow, generation: number, minReadyMs: number, now: Date): boolean {
  if (row.workloadGeneration !== generation) return false;
  if (row.phase === "Succeeded" && row.nextAttemptAt === null) return true;
  return isAvailable(row) && readyAt(row, minReadyMs) <= now.getTime();
}

const readyAt = (row: TaskRow, minReadyMs: number): number => (row.availableSince?.getTime() ?? 0) + minReadyMs;

/** What was known, or the beginning of a rollout of a new revision. */
function begun({ before, revision, wanted, now }: RolloutInput): RolloutState {
  if (before?.revision === revision) return before;
  return {
    revision,
    target: revision,
    stable: before?.stable ?? 0,
    phase: "Progressing",
    reason: "",
    message: "",
    done: 0,
    wanted,
    startedAt: now,
    progressedAt: now,
    finishedAt: null,
  };
}

function paused(state: RolloutState, now: Date): RolloutState {
  if (state.phase === "Paused") return state;
  return { ...state, phase: "Paused", progressedAt: now };
}

function resumed(state: RolloutState, now: Date): RolloutState {
  if (state.phase !== "Paused") return state;
  return { ...state, phase: state.target === state.revision ? "Progressing" : "RollingBack", progressedAt: now };
}

/** Notes progress: more tasks are done than ever, or another number is wanted. */
function measured(input: RolloutInput, state: RolloutState): RolloutState {
  const { wanted, now } = input;
  const done = input.tasks.filter((row) => isTargetDone(input, state, row)).length;
  if (wanted !== state.wanted) return { ...state, wanted, done, progressedAt: now };
  if (done <= state.done) return state;
  const phase = state.phase === "Failed" ? "Progressing" : state.phase;
  return { ...state, done, phase, progressedAt: now, ...(phase === state.phase ? {} : { reason: "", message: "" }) };
}

function isTargetDone({ generationOf, bounds, now }: RolloutInput, state: RolloutState, row: TaskRow): boolean {
  return isDone(row, generationOf(state.target) ?? -1, bounds.minReadyMs, now);
}

function advanced(input: RolloutInput, state: RolloutState): RolloutOutcome {
  const { tasks, wanted, now, bounds } = input;
  const missing = tasks.filter((row) => !isTargetDone(input, state, row));
  if (tasks.length >= wanted && missing.length === 0) return { state: finished(state, now), wakeAt: undefined };
  const hopeless = [...input.surge, ...missing].find((row) => isHopeless(input, state, row));
  if (hopeless !== undefined && state.phase === "Progressing") {
    const message = `${hopeless.name}: ${hopeless.reason} ${hopeless.message}`.trimEnd();
    return { state: failed(input, state, "TaskFailed", `a task has failed for good: ${message}`), wakeAt: now };
  }
  // All that is missing possibly runs, on nodes that are silent.
  if (missing.length > 0 && missing.every((row) => row.certainty === "unreachable")) {
    return { state: { ...state, progressedAt: now }, wakeAt: undefined };
  }
  const deadline = new Date(state.progressedAt.getTime() + bounds.progressDeadlineMs);
  if (deadline <= now) {
    const wakeAt = state.phase === "Progressing" ? now : undefined;
    return { state: failed(input, state, "ProgressDeadlineExceeded", whyStuck(input, state, missing)), wakeAt };
  }
  return { state, wakeAt: earliestReady(input, state, deadline) };
}

function finished(state: RolloutState, now: Date): RolloutState {
  const common = { ...state, done: state.wanted, progressedAt: now, finishedAt: now };
  if (state.target !== state.revision) return { ...common, phase: "RolledBack" };
  return { ...common, phase: "Complete", stable: state.revision, reason: "", message: "" };
}

function failed(input: RolloutInput, state: RolloutState, reason: string, message: string): RolloutState {
  const { generationOf, bounds, now } = input;
  // A rollback that makes no progress has nowhere else to go; why the rollout failed stays what is told.
  if (state.phase !== "Progressing") return state;
  const goesBack = bounds.rollback && state.stable > 0 && state.stable !== state.target;
  if (!goesBack || generationOf(state.stable) === undefined) return { ...state, phase: "Failed", reason, message };
  return { ...state, phase: "RollingBack", target: state.stable, reason, message, done: 0, progressedAt: now };
}

/** It has ended as failed, and its policy does not try it again. */
function isHopeless(input: RolloutInput, state: RolloutState, row: TaskRow): boolean {
  if (row.workloadGeneration !== input.generationOf(state.target)) return false;
  if (!hasEnded(row.phase) || row.phase === "Succeeded" || row.nextAttemptAt !== null) return false;
  const { begin, wakeAt } = planRestart(input.restart, row, input.now);
  return !begin && wakeAt === undefined;
}

function whyStuck(input: RolloutInput, state: RolloutState, missing: readonly TaskRow[]): string {
  const { bounds, wanted, generationOf } = input;
  const seconds = bounds.progressDeadlineMs / 1_000;
  const moved = [...input.surge, ...missing].filter((row) => row.workloadGeneration === generationOf(state.target));
  const troubled = moved.find((row) => row.message !== "" || row.reason !== "") ?? moved[0] ?? missing[0];
  const words = troubled?.message || troubled?.reason || troubled?.phase;
  const why = troubled === undefined ? "" : `; ${troubled.name}: ${words}`;
  return `no further task became available within ${seconds} s: ${state.done} of ${wanted} are${why}`;
}

/** The deadline, or before it the moment at which a task has been available for long enough. */
function earliestReady(input: RolloutInput, state: RolloutState, deadline: Date): Date {
  const generation = input.generationOf(state.target);
  const times = input.tasks
    .filter((row) => row.workloadGeneration === generation && isAvailable(row))
    .map((row) => readyAt(row, input.bounds.minReadyMs))
    .filter((atMs) => atMs > input.now.getTime());
  return new Date(Math.min(deadline.getTime(), ...times));
}
