/** The controller's transactions, dispatch and ingest. */
import type { Step } from "../explore.ts";
import type { Rules } from "./rules.ts";
import { execName, withStore, type AssignmentSet, type Entry, type Job, type State, type Store } from "./state.ts";

/** Jobs, sets and executions that are on their way at a time: the exploration's bound. */
export interface Scope {
  readonly maxExecs: number;
  readonly maxFaults: number;
  readonly maxSets: number;
}

export function controllerSteps(state: State, rules: Rules, { maxExecs, maxSets }: Scope): Step<State>[] {
  const { store, outbox, journal, sets } = state;
  const steps: Step<State>[] = [];
  if (state.execs < maxExecs && store.confirmed) {
    steps.push({ name: "ExecutionMade", of: execName(store.exec + 1), next: executionMade(state) });
  }
  if (store.exec >= 0 && store.desired === "run") {
    steps.push({ name: "StopOrdered", of: execName(store.exec), next: stopOrdered(state) });
  }
  const [first, ...rest] = outbox;
  if (first !== undefined) {
    const queue = [...state.queue, first];
    steps.push({ name: "JobDispatched", of: jobName(first), next: { ...state, outbox: rest, queue } });
  }
  const set = setOf(store);
  if (sets.length < maxSets && !sets.some((each) => sameSet(each, set)) && !isApplied(state, set)) {
    steps.push({ name: "SetRead", of: `revision ${set.revision}`, next: { ...state, sets: [...sets, set] } });
  }
  for (const [index, entry] of journal.entries()) {
    if (rules.entriesInOrder && index !== store.stored) continue;
    steps.push({
      name: "EntryStored",
      of: `${execName(entry.exec)} ${entry.what}`,
      next: stored(state, entry, index, rules),
    });
  }
  if (!store.confirmed) steps.push({ name: "StoreConfirmed", of: "", next: withStore(state, { confirmed: true }) });
  if (!store.reachable) steps.push({ name: "NodeHeard", of: "", next: withStore(state, { reachable: true }) });
  else if (store.exec >= 0) steps.push({ name: "NodeSilent", of: "", next: silent(state, rules) });
  return steps;
}

/** A new spec, or a try after an end: the row, the revision and the outbox in one transaction. */
function executionMade(state: State): State {
  const { store } = state;
  const exec = store.exec + 1;
  const revision = store.revision + 1;
  const job: Job = { kind: "run", exec, epoch: store.epoch, revision };
  const made = withStore(state, { exec, revision, desired: "run", phase: "assigned" });
  return { ...made, outbox: [...state.outbox, job], execs: state.execs + 1 };
}

function stopOrdered(state: State): State {
  const { store } = state;
  const revision = store.revision + 1;
  const job: Job = { kind: "stop", exec: store.exec, epoch: store.epoch, revision };
  return { ...withStore(state, { desired: "stop", revision }), outbox: [...state.outbox, job] };
}

function setOf(store: Store): AssignmentSet {
  const { epoch, revision, confirmed } = store;
  return { epoch, revision, confirmed, run: store.desired === "run" ? store.exec : -1 };
}

const sameSet = (a: AssignmentSet, b: AssignmentSet): boolean =>
  a.epoch === b.epoch && a.revision === b.revision && a.confirmed === b.confirmed;

/** A set that says nothing new is still read once more after a confirmation: absence stops only then. */
function isApplied({ applied, rows }: State, set: AssignmentSet): boolean {
  if (applied.epoch !== set.epoch || applied.revision !== set.revision) return false;
  return !rows.some((row, exec) => row.wanted && row.state !== "none" && row.state !== "ended" && exec !== set.run);
}

/** D3, D4: one transaction moves the watermark and the task that the entry names. */
function stored(state: State, entry: Entry, index: number, rules: Rules): State {
  const { store } = state;
  const watermark = Math.max(store.stored, index + 1);
  const concerns = store.exec >= 0 && (entry.exec === store.exec || !rules.resultsByExecution);
  const ends = rules.entriesInOrder && store.phase === "ended";
  const phase = concerns && !ends ? (entry.what === "started" ? "running" : "ended") : store.phase;
  return withStore(state, { stored: watermark, phase });
}

function silent(state: State, rules: Rules): State {
  return withStore(state, { reachable: false, ...(rules.silenceIsNoEnd ? {} : { phase: "ended" as const }) });
}

export const jobName = (job: Job): string => `${job.kind} ${execName(job.exec)}, revision ${job.revision}`;
