/**
 * Assignments, attempts and the journal as a specification: what reaches a node, what it does about it, and what the store then
 * believes, whatever is wiped, repeated, overtaken or restored (D2, D3, D5, D6).
 *
 * A restored store gets a new epoch. Left out: that it gives the number of an execution that it has forgotten to another one,
 * and that a node knows a newer execution than it does; what is shown here of a restore ends with its first new execution.
 */
import type { Specification, Step } from "../explore.ts";
import { controllerSteps, type Scope } from "./controller.ts";
import { nodeSteps } from "./node.ts";
import { PROTOCOL, type Rules } from "./rules.ts";
import { execName, initialState, newest, rowOf, withStore, type State } from "./state.ts";

export const STEPS: Readonly<Record<string, string>> = {
  ExecutionMade: "a generation or an attempt: the row, the node's revision and the outbox in one transaction",
  StopOrdered: "a task is to end: the same",
  JobDispatched: "a row of the outbox becomes a job in Redis; only then the row goes",
  SetRead: "the full set of a node with (store epoch, revision)",
  JobTaken: "newer than the applied set, of the same store: the intent is durable",
  SetApplied:
    "not older than the applied one: all its intents are durable, absence stops what it covers, then the revision",
  ContainerStarted: "the newest execution, when none before it runs",
  StartJournaled: "row and journal entry in one transaction; also when the start is found after a crash",
  ContainerStopped: "what is not wanted any more is ended",
  EndJournaled: "row and journal entry in one transaction; also when the end is found after a crash",
  ExecutionRemoved: "nothing is left but a tombstone",
  EntryStored: "the next entry of the journal, once, for the execution that it names",
  NodeSilent: "the lease has run out: the node is Unknown, its tasks unreachable, their phases as they were",
  NodeHeard: "the lease is back: what the journal said last is true again",
  StoreConfirmed: "an operator confirms a restored store: absence may stop again",
};

export function assignment(scope: Scope, rules: Rules = PROTOCOL): Specification<State> {
  return {
    initial: initialState,
    steps: (state) => [
      ...controllerSteps(state, rules, scope),
      ...nodeSteps(state, rules),
      ...faultSteps(state, rules, scope),
    ],
    key: (state) => JSON.stringify(state),
    violations: violationsOf,
    show,
  };
}

function faultSteps(state: State, rules: Rules, scope: Scope): Step<State>[] {
  if (state.faults >= scope.maxFaults) return [];
  const steps: Step<State>[] = [];
  const fault = (name: string, next: State): void => {
    steps.push({ name, of: "", next: { ...next, faults: state.faults + 1 } });
  };
  if (state.queue.length > 0) fault("RedisWiped", { ...state, queue: [] });
  if (!rules.intentFirst && state.rows.some((row) => row.state === "none" && row.process === "running"))
    fault("AgentCrashed", { ...state });
  if (state.backup === undefined) steps.push({ name: "BackupTaken", of: "", next: { ...state, backup: state.store } });
  else {
    const restored = withStore(state, { ...state.backup, epoch: state.store.epoch + 1, confirmed: false });
    // What waited in the outbox went with the store that held it. Numbers are not given again.
    const exec = state.backup.exec;
    fault("StoreRestored", { ...withStore(restored, { exec }), outbox: [], backup: undefined, execs: scope.maxExecs });
  }
  return steps;
}

function violationsOf(before: State, { next }: Step<State>): string[] {
  const found: string[] = [];
  const known = newest(before);
  for (const [exec, row] of next.rows.entries()) {
    const was = rowOf(before, exec);
    const began = row.starts > was.starts;
    if (row.starts > 1) found.push(`${execName(exec)} started ${row.starts} times`);
    if (began && exec < known) found.push(`${execName(exec)} started after a newer one was known`);
    if (began && was.stopTaken) found.push(`${execName(exec)} started after its stop was taken`);
    if (was.wanted && !row.wanted && was.state !== "ended") found.push(...stopViolations(before, next, exec));
  }
  if (before.foreignRuns && !next.foreignRuns) found.push("a foreign container was stopped");
  const [old, now] = [before.applied, next.applied];
  if (old.epoch === now.epoch && now.revision < old.revision)
    found.push(`the node took revision ${now.revision} after ${old.revision}`);
  return [...found, ...statusViolations(before, next)];
}

/** Of what the absence from a set has stopped. */
function stopViolations({ store, sets }: State, next: State, exec: number): string[] {
  const set = sets.find((each) => !next.sets.includes(each));
  if (set === undefined || set.run >= 0) return [];
  if (!set.confirmed) return [`${execName(exec)} stopped by an unconfirmed store`];
  const isWanted = store.exec === exec && store.desired === "run" && store.phase !== "ended";
  return isWanted && set.epoch === store.epoch ? [`${execName(exec)} stopped though it is wanted`] : [];
}

/** Terminal states never change; what the store says of an execution, its node has said. */
function statusViolations(before: State, { store, rows }: State): string[] {
  const same = store.exec === before.store.exec && store.epoch === before.store.epoch;
  if (same && before.store.phase === "ended" && store.phase !== "ended")
    return [`${execName(store.exec)} changed from ended to ${store.phase}`];
  if (store.exec < 0 || store.phase !== "ended") return [];
  const { state } = rowOf({ rows }, store.exec);
  return state === "ended" || state === "removed"
    ? []
    : [`${execName(store.exec)} is shown as ended: the node says otherwise`];
}

function show({ store, rows, applied, queue, sets }: State): string {
  const status = store.exec < 0 ? "no task" : `${execName(store.exec)} to ${store.desired}, ${store.phase}`;
  const certainty = store.reachable ? "" : ", unreachable";
  const ofNode = rows.flatMap((row, exec) =>
    row.state === "none" && row.process === "none" ? [] : [`${execName(exec)} ${row.state}, process ${row.process}`],
  );
  return [
    `store ${store.epoch}.${store.revision}: ${status}${certainty}`,
    `node ${applied.epoch}.${applied.revision}: ${ofNode.join("; ") || "nothing"}`,
    `${queue.length} jobs, ${sets.length} sets under way`,
  ].join(" | ");
}
