/** What a node does: the agent's steps, and those of the stopper, which go on without it. */
import type { Step } from "../explore.ts";
import type { Rules } from "./rules.ts";
import {
  DRIFT,
  execName,
  execOf,
  nameOf,
  nodeName,
  TTL,
  withExec,
  withNode,
  type AssignmentSet,
  type ExecState,
  type LeaseAnswer,
  type Node,
  type State,
} from "./state.ts";

export function nodeSteps(state: State, index: number, rules: Rules): Step<State>[] {
  const node = state.nodes[index]!;
  const of = nodeName(index);
  const steps: Step<State>[] = [];
  if (stopperMayFire(state, node, rules))
    steps.push({ name: "StopperFired", of, next: stopperFired(state, index, rules) });
  if (!node.up) return steps;
  if (node.lease !== undefined) steps.push({ name: "LeaseHeld", of, next: leaseHeld(state, index, node.lease, rules) });
  if (node.set !== undefined) steps.push({ name: "SetApplied", of, next: setApplied(state, index, node.set) });
  for (const exec of state.placed.keys()) {
    const step = execStep(state, index, exec, rules);
    if (step !== undefined) steps.push({ name: step[0], of: `${execName(exec)} on ${of}`, next: step[1] });
  }
  return steps;
}

/** The answer arms the stopper (a file, durable) before anything else is done with it. */
export function leaseHeld(state: State, index: number, { sentAt, epoch, revision }: LeaseAnswer, rules: Rules): State {
  const { armedUntil } = state.nodes[index]!;
  const from = rules.countFromSend ? sentAt : state.now;
  return withNode(state, index, {
    armedUntil: Math.max(armedUntil, from + TTL),
    answered: { epoch, revision },
    lease: undefined,
  });
}

function setApplied(state: State, index: number, set: AssignmentSet): State {
  const { applied } = state.nodes[index]!;
  const taken = withNode(state, index, { set: undefined });
  const older = applied.epoch === set.epoch && set.revision < applied.revision;
  if (older) return taken;
  let next = withNode(taken, index, { applied: set });
  for (const exec of state.placed.keys()) {
    const has = execOf(state.nodes[index]!, exec);
    if (exec === set.run) {
      if (has === "absent" && !set.held) next = withExec(next, index, exec, "accepted");
    } else if (exec === set.stop || (set.confirmed && isCovered(state, index, exec, set))) {
      next = withExec(next, index, exec, stopped(has, exec === set.stop));
    }
  }
  return next;
}

/** Is the set at least as new as what asked for this execution (D5)? Another store's revisions cannot be compared with it. */
function isCovered(state: State, index: number, exec: number, set: AssignmentSet): boolean {
  const { on, epoch, revision } = state.placed[exec]!;
  return on === nameOf(state, index) && (epoch !== set.epoch || revision <= set.revision);
}

function stopped(exec: ExecState, remember: boolean): ExecState {
  switch (exec) {
    case "absent":
      return remember ? "ended" : "absent";
    case "accepted":
      return "ended";
    case "checked":
    case "running":
      return "stopping";
    case "stopping":
    case "ended":
      return exec;
  }
}

function execStep(state: State, index: number, exec: number, rules: Rules): [string, State] | undefined {
  const node = state.nodes[index]!;
  const become = (name: string, next: ExecState): [string, State] => [name, withExec(state, index, exec, next)];
  switch (execOf(node, exec)) {
    case "absent":
      return isJobTaken(state, index, exec) ? become("JobTaken", "accepted") : undefined;
    case "accepted":
      return mayStart(state, index, exec, rules) ? become("LeaseChecked", "checked") : undefined;
    case "checked":
      return become("ContainerStarted", "running");
    case "stopping":
      return become("ContainerStopped", "ended");
    case "running":
    case "ended":
      return undefined;
  }
}

/** A job says nothing new to a node that has a set as new, and nothing at all about another store (D5). */
function isJobTaken(state: State, index: number, exec: number): boolean {
  const { on, epoch, revision } = state.placed[exec]!;
  const { applied } = state.nodes[index]!;
  if (on !== nameOf(state, index)) return false;
  return applied.epoch === epoch && revision > applied.revision;
}

/**
 * The lease lasts by the node's clock, and the execution is still the current one by the word of that same lease: what asked for
 * it is as new as the lease's answer, or so is the set that it is in. For if it had been replaced before that answer was
 * written, the revision would say so; and if it is replaced later, then not before the lease and its stop are over.
 */
function mayStart({ now, placed, nodes }: State, index: number, exec: number, rules: Rules): boolean {
  const { answered, applied, armedUntil } = nodes[index]!;
  if (answered === undefined || now >= armedUntil + DRIFT) return false;
  if (!rules.startOnlyCurrent) return true;
  const { epoch, revision } = placed[exec]!;
  if (epoch === answered.epoch && revision >= answered.revision) return true;
  if (applied.held || applied.run !== exec) return false;
  return applied.epoch === answered.epoch && applied.revision >= answered.revision;
}

/** By a fast clock it fires sooner: that is an exit like another, and no harm. */
function stopperMayFire({ now }: State, node: Node, rules: Rules): boolean {
  if (!node.up && !rules.stopperOutlivesAgent) return false;
  return now >= node.armedUntil && node.execs.some((exec) => hasProcess(exec, rules));
}

function stopperFired(state: State, index: number, rules: Rules): State {
  const execs = state.nodes[index]!.execs.map((exec) => (hasProcess(exec, rules) ? "ended" : exec));
  return withNode(state, index, { execs });
}

/** Is there a process that the stopper can end? */
function hasProcess(exec: ExecState, { createBeforeCheck }: Pick<Rules, "createBeforeCheck">): boolean {
  switch (exec) {
    case "running":
    case "stopping":
      return true;
    case "checked":
      return createBeforeCheck;
    case "absent":
    case "accepted":
    case "ended":
      return false;
  }
}
