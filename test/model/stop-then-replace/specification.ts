/**
 * `onNodeLoss: stopThenReplace` as a specification: what a controller, agents and stoppers may do, and what must hold
 * whatever is lost, late, repeated or crashes (DESIGN, flow C; D2, D3, D5).
 *
 * The argument in a sentence: a node counts its lease from before the request was sent, the controller from when it was
 * written; so what ran under the last lease that the store knows of is gone `SAFE_AFTER` later, and nothing starts on a node
 * unless the very lease that covers the start also says that the execution is still the current one.
 *
 * The code names the steps it implements: `// protocol: LeaseGranted`. `STEPS` is the list.
 */
import type { Specification, Step } from "../explore.ts";
import { controllerSteps } from "./controller.ts";
import { faultSteps } from "./faults.ts";
import { nodeSteps } from "./node.ts";
import { PROTOCOL, type Rules } from "./rules.ts";
import type { Scope } from "./scopes.ts";
import {
  DRIFT,
  execName,
  execOf,
  initialState,
  isAlive,
  nameOf,
  nodeName,
  SAFE_AFTER,
  STOP,
  TTL,
  type ExecState,
  type Node,
  type State,
} from "./state.ts";

/** What a part of the system does; faults are not among them. */
export const STEPS: Readonly<Record<string, string>> = {
  LeaseGranted: "the controller writes the lease, then answers with the node's revision",
  LeaseHeld:
    "the agent arms the stopper with sent + TTL by CLOCK_BOOTTIME, durably, and remembers the answer's revision",
  TaskPlaced: "the controller makes an execution: the first, or one after an end that it knows",
  TaskReplaced: "the controller makes an execution elsewhere: its node's last lease was written SAFE_AFTER ago",
  StopOrdered: "the controller wants an execution stopped; it stays the current one until its end is known",
  NameGiven:
    "the controller gives a node's name to an agent with another data root, SAFE_AFTER after its last lease, under new numbers",
  EntryStored: "the controller takes a journal's end of the execution that it names",
  SetRead: "the full set of a node with (store epoch, revision)",
  SetApplied: "the agent takes a set that is not older than its own: intents and stops are durable, then the revision",
  JobTaken: "the agent takes a job that is newer than its set: the intent is durable, nothing has begun",
  LeaseChecked: "its process exists, held; the lease lasts, and by its own word the execution is still the current one",
  ContainerStarted: "the program runs",
  StopperFired: "the deadline has passed: what of stopThenReplace has a process is killed",
  ContainerStopped: "the process is gone, and the journal says so",
  StoreConfirmed: "an operator confirms a restored store: absence may stop again",
  StoreReleased: "every node runs only what the store names, or was silent for SAFE_AFTER: placing goes on",
};

export function stopThenReplace(scope: Scope, rules: Rules = PROTOCOL): Specification<State> {
  return {
    initial: initialState(scope.nodes),
    steps: (state) => [
      ...controllerSteps(state, rules, scope),
      ...state.nodes.flatMap((_, index) => nodeSteps(state, index, rules)),
      ...faultSteps(state, rules, scope),
    ],
    key: keyOf,
    violations: violationsOf,
    show,
  };
}

function violationsOf(before: State, { next }: Step<State>): string[] {
  const found: string[] = [];
  const alive = next.nodes.flatMap((node, index) =>
    node.execs.flatMap((exec, at) => (isAlive(exec) ? [`${execName(at)} on ${nodeName(index)}`] : [])),
  );
  if (alive.length > 1) found.push(`${alive.join(" and ")} run at once`);
  // Another agent has one's name: what was of the name is the ghost's now.
  if (next.heirs > before.heirs) return found;
  for (const [index, node] of next.nodes.entries()) {
    const was = before.nodes[index]!;
    for (const [exec, state] of node.execs.entries()) {
      if (!mayFollow(execOf(was, exec), state)) found.push(`${execName(exec)} on ${nodeName(index)} began once more`);
      else if (isAbsentStopped(was, node, exec)) found.push(`${execName(exec)} stopped by an unconfirmed store`);
    }
    const [old, now] = [was.applied, node.applied];
    if (old.epoch === now.epoch && now.revision < old.revision)
      found.push(`${nodeName(index)} took revision ${now.revision} after ${old.revision}`);
  }
  return found;
}

/** What has ended, or is about to, never comes back. */
function mayFollow(was: ExecState, now: ExecState): boolean {
  if (was === "ended") return now === "ended";
  if (was === "running") return now !== "accepted" && now !== "checked";
  return true;
}

function isAbsentStopped(was: Node, now: Node, exec: number): boolean {
  const { applied } = now;
  if (applied === was.applied || applied.confirmed || exec === applied.stop) return false;
  return execOf(was, exec) === "running" && execOf(now, exec) === "stopping";
}

const LETTER: Readonly<Record<ExecState, string>> = {
  absent: "-",
  accepted: "a",
  checked: "k",
  running: "R",
  stopping: "S",
  ended: "e",
};

/** Times count from now, and only as far back as anything looks; nodes have no names. */
function keyOf(state: State): string {
  const { now, nodes, placed, store, backup } = state;
  const ago = (at: number, limit: number): number => Math.min(now - at, limit);
  const ownOf = (node: Node, index: number): string => {
    const { lease, applied, set, answered } = node;
    const name = nameOf(state, index);
    const execs = placed.map((each, exec) => `${LETTER[execOf(node, exec)]}${each.on === name ? "*" : ""}`).join("");
    return [
      node.up ? "u" : "d",
      ago(node.armedUntil, DRIFT + STOP),
      answered === undefined ? "" : `${answered.epoch}.${answered.revision}`,
      setKey(applied),
      set === undefined ? "" : setKey(set),
      lease === undefined ? "" : `${lease.epoch}.${lease.revision}.${ago(lease.sentAt, TTL + DRIFT)}`,
      execs,
    ].join(",");
  };
  const ofNode = nodes.flatMap((node, index) => {
    if (node.ghostOf !== undefined) return [];
    const ghosts = nodes.flatMap((each, at) => (each.ghostOf === index ? [ownOf(each, at)] : []));
    const known = [
      store.revision[index],
      ago(store.leaseAt[index]!, SAFE_AFTER),
      store.clean[index] ? "y" : "n",
      backup === undefined ? "" : `${backup.revision[index]}/${ago(backup.leaseAt[index]!, SAFE_AFTER)}`,
    ];
    return [[ownOf(node, index), ...known, ...ghosts.sort()].join(",")];
  });
  const rest = [
    placed.map(({ epoch, revision }) => `${epoch}.${revision}`).join(","),
    storeKey(store),
    backup === undefined ? "" : storeKey(backup),
    state.restores,
    state.ends,
    state.heirs,
  ];
  return `${ofNode.sort().join("|")}|${rest.join("|")}`;
}

const setKey = (set: NonNullable<Node["set"]>): string =>
  `${set.epoch}.${set.revision}.${set.run}.${set.stop}${set.confirmed ? "c" : ""}${set.held ? "h" : ""}`;

const storeKey = ({ epoch, current, wanted, ended, hold }: State["store"]): string =>
  `${epoch}.${current}.${wanted}.${ended ? "e" : ""}.${hold}`;

/** `t=4  A: lease 2 left, X1 running | B: agent down | store: X1 on A` */
function show({ now, nodes, placed, store }: State): string {
  const ofNodes = nodes.map((node, index) => {
    const left = node.armedUntil - now;
    const execs = node.execs.flatMap((exec, at) => (exec === "absent" ? [] : [`${execName(at)} ${exec}`]));
    const lease = left > 0 ? `lease ${left} left` : `lease over for ${-left}`;
    const name = node.ghostOf === undefined ? nodeName(index) : `the one that was ${nodeName(node.ghostOf)}`;
    return `${name}: ${[node.up ? lease : `agent down, ${lease}`, ...execs].join(", ")}`;
  });
  const current =
    store.current < 0 ? "nothing" : `${execName(store.current)} on ${nodeName(placed[store.current]!.on)}`;
  const more = [
    store.ended ? "ended" : store.wanted === "stop" ? "to be stopped" : "",
    store.hold === "none" ? "" : store.hold,
  ];
  return [`t=${now}`, ...ofNodes, `store: ${[current, ...more].filter(Boolean).join(", ")}`].join(" | ");
}
