/** The agent: what it takes on, what it does, what it finds when it starts again. */
import type { Step } from "../explore.ts";
import { jobName } from "./controller.ts";
import type { Rules } from "./rules.ts";
import {
  execName,
  newest,
  rowOf,
  withRow,
  type AssignmentSet,
  type Job,
  type Row,
  type State,
  type Version,
} from "./state.ts";

export function nodeSteps(state: State, rules: Rules): Step<State>[] {
  const steps: Step<State>[] = [];
  for (const job of state.queue) {
    const next = jobTaken(state, job, rules);
    if (next !== state) steps.push({ name: "JobTaken", of: jobName(job), next });
  }
  for (const [index, set] of state.sets.entries()) {
    const taken = { ...state, sets: state.sets.toSpliced(index, 1) };
    steps.push({ name: "SetApplied", of: `revision ${set.revision}`, next: setApplied(taken, set, rules) });
  }
  for (const [exec, row] of state.rows.entries()) steps.push(...execSteps(state, exec, row, rules));
  return steps;
}

/** A job that is not newer than the applied set says nothing new; one of another store is left to the next set. */
function jobTaken(state: State, job: Job, rules: Rules): State {
  const { applied } = state;
  if (job.epoch !== applied.epoch || job.revision <= applied.revision) return state;
  return job.kind === "run" ? wanted(state, job.exec, job, rules) : unwanted(state, job.exec, job, rules);
}

/** The intent; nothing has begun. */
function wanted(state: State, exec: number, { epoch, revision }: Version, rules: Rules): State {
  if (rowOf(state, exec).state !== "none") return state;
  if (rules.olderIgnored && exec < newest(state)) return state;
  const intent = rules.intentFirst ? "intent" : "none";
  const next = withRow(state, exec, { state: intent, wanted: true, origin: { epoch, revision } });
  if (rules.intentFirst) return supersede(next, exec);
  const row = rowOf(next, exec);
  return withRow(next, exec, row.process === "running" ? {} : begun(row));
}

/** Every older execution ends before the newest goes on. */
function supersede(state: State, exec: number): State {
  let next = state;
  for (const [older, row] of state.rows.entries()) {
    if (older < exec && row.state !== "none") next = withRow(next, older, { wanted: false });
  }
  return next;
}

/** A stop is for an execution and all before it; one that is newer goes on. */
function unwanted(state: State, exec: number, origin: Version, rules: Rules): State {
  let next = state;
  for (const [older, row] of state.rows.entries()) {
    if (older <= exec && row.state !== "none") next = withRow(next, older, { wanted: false, stopTaken: true });
  }
  if (rowOf(state, exec).state !== "none" || exec < newest(state)) return next;
  const { epoch, revision } = origin;
  return withRow(next, exec, {
    state: rules.tombstones ? "removed" : "none",
    origin: { epoch, revision },
    stopTaken: true,
  });
}

function setApplied(state: State, set: AssignmentSet, rules: Rules): State {
  const { applied } = state;
  const older = applied.epoch === set.epoch && set.revision < applied.revision;
  if (older && rules.olderSetsRefused) return state;
  let next: State = set.run < 0 ? state : wanted(state, set.run, set, rules);
  if (set.confirmed || !rules.stopsConfirmed) {
    for (const [exec, row] of state.rows.entries()) {
      const covered = row.origin.epoch !== set.epoch || row.origin.revision <= set.revision;
      if (set.run < 0 && row.wanted && row.state !== "none" && (covered || !rules.newerJobsSpared))
        next = withRow(next, exec, { wanted: false });
    }
    if (!rules.ownOnly) next = { ...next, foreignRuns: false };
  }
  return { ...next, applied: { epoch: set.epoch, revision: set.revision } };
}

function execSteps(state: State, exec: number, row: Row, rules: Rules): Step<State>[] {
  const of = execName(exec);
  const step = (name: string, patch: Partial<Row>, what?: "started" | "ended"): Step<State> => {
    const journal = what === undefined ? state.journal : [...state.journal, { exec, what }];
    return { name, of, next: { ...withRow(state, exec, patch), journal } };
  };
  const steps: Step<State>[] = [];
  if (row.process === "running") steps.push(step("ContainerExited", { process: "gone" }));
  switch (row.state) {
    case "none":
      // Only without the intent: acted first, the row comes after.
      if (row.process !== "none" && !rules.intentFirst)
        steps.push(step("StartJournaled", { state: "running" }, "started"));
      break;
    case "intent":
      if (row.process !== "none") steps.push(step("StartJournaled", { state: "running" }, "started"));
      else if (!row.wanted) steps.push(step("EndJournaled", { state: "ended" }, "ended"));
      else if (mayBegin(state, exec, rules)) steps.push(step("ContainerStarted", begun(row)));
      break;
    case "running":
      if (row.process === "gone") steps.push(step("EndJournaled", { state: "ended" }, "ended"));
      else if (!row.wanted) steps.push(step("ContainerStopped", { process: "gone" }));
      break;
    case "ended":
      if (!row.wanted) steps.push(step("ExecutionRemoved", { state: "removed" }));
      break;
    case "removed":
      break;
  }
  return steps;
}

function mayBegin(state: State, exec: number, rules: Rules): boolean {
  const gone = (row: Row, at: number): boolean => at >= exec || row.process !== "running";
  return !rules.olderIgnored || (exec === newest(state) && state.rows.every(gone));
}

const begun = (row: Row): Partial<Row> => ({ process: "running", starts: row.starts + 1 });
