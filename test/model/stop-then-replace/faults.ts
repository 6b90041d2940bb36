/**
 * What the world does. Time passes only as far as the stopper lets it: its bound is an assumption of the protocol (a process
 * of its own, supervised, in a cgroup of its own), not something that the protocol achieves.
 */
import type { Step } from "../explore.ts";
import type { Rules } from "./rules.ts";
import type { Scope } from "./scopes.ts";
import { DRIFT, execName, nodeName, STOP, TTL, withExec, withNode, type Node, type State } from "./state.ts";

export function faultSteps(state: State, rules: Rules, { maxRestores, maxEnds, crashes }: Scope): Step<State>[] {
  const steps: Step<State>[] = [];
  if (mayTick(state, rules)) steps.push({ name: "Tick", of: "", next: ticked(state) });
  for (const [index, node] of state.nodes.entries()) {
    const of = nodeName(index);
    if (!node.up) steps.push({ name: "AgentStarted", of, next: withNode(state, index, { up: true }) });
    else if (crashes && hasMemory(node)) steps.push({ name: "AgentCrashed", of, next: crashed(state, index, rules) });
    for (const [exec, has] of node.execs.entries()) {
      if (has !== "running" || state.ends >= maxEnds) continue;
      steps.push({
        name: "ContainerExited",
        of: `${execName(exec)} on ${of}`,
        next: { ...withExec(state, index, exec, "ended"), ends: state.ends + 1 },
      });
    }
  }
  if (state.restores < maxRestores) {
    if (state.backup !== undefined) steps.push({ name: "StoreRestored", of: "", next: restored(state, rules) });
    else steps.push({ name: "BackupTaken", of: "", next: { ...state, backup: state.store } });
  }
  return steps;
}

/**
 * What the agent only remembers is lost: the answer of its lease, what it was about to do. The container goes on. An agent that
 * is down for a while is one that takes no step for a while; only a stopper that dies with it tells the difference.
 */
function crashed(state: State, index: number, rules: Rules): State {
  const execs = state.nodes[index]!.execs.map((exec) => (exec === "checked" ? "accepted" : exec));
  return withNode(state, index, {
    up: rules.stopperOutlivesAgent,
    lease: undefined,
    set: undefined,
    answered: undefined,
    execs,
  });
}

function hasMemory({ lease, set, answered, execs }: Node): boolean {
  return lease !== undefined || set !== undefined || answered !== undefined || execs.includes("checked");
}

/** Back to an earlier day. The leases of the day in between are unknown, so all are taken to have been written just now. */
function restored(state: State, rules: Rules): State {
  const { now, store, backup } = state;
  const old = backup!;
  const next = { ...state, backup: undefined, restores: state.restores + 1 };
  if (!rules.newEpoch) return { ...next, store: old };
  const known = {
    ...old,
    epoch: store.epoch + 1,
    leaseAt: old.leaseAt.map(() => now),
    clean: old.clean.map(() => false),
  };
  return { ...next, store: { ...known, hold: rules.holdAfterRestore ? "restored" : "none" } };
}

/** An answer so late that it arms nothing is as good as lost. */
function ticked(state: State): State {
  const now = state.now + 1;
  const nodes = state.nodes.map((node) =>
    node.lease !== undefined && now >= node.lease.sentAt + TTL + DRIFT ? { ...node, lease: undefined } : node,
  );
  return { ...state, now, nodes };
}

function mayTick({ now, nodes }: State, rules: Rules): boolean {
  return nodes.every((node) => !mustHaveStopped(node, rules) || now + 1 < node.armedUntil + DRIFT + STOP);
}

function mustHaveStopped({ up, execs }: Node, rules: Rules): boolean {
  if (!up && !rules.stopperOutlivesAgent) return false;
  return execs.some(
    (exec) => exec === "running" || exec === "stopping" || (exec === "checked" && rules.createBeforeCheck),
  );
}
