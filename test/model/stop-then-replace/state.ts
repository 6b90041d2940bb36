/**
 * The state of the specification of `onNodeLoss: stopThenReplace`: one task, a few nodes, the controller's store.
 *
 * Time is counted in ticks of real time. A node measures durations by its own clock, which drifts: what it does at its own
 * deadline may happen up to `DRIFT` ticks before or after that moment of real time, and the stopper then takes up to `STOP`
 * ticks. Messages are lost, late or repeated at will: whatever lies ready may be taken now, later, again, or never, so that
 * no step stands for a loss. A partition is messages that are not taken.
 *
 * An execution is named by what nothing else is ever named by (here a number, in the system (task uid, generation, attempt)),
 * also across a restored store.
 */
export const TTL = 1;
export const STOP = 1;
export const DRIFT = 1;

/** From the controller's write of a lease until nothing that ran under it can still run. */
export const SAFE_AFTER = TTL + STOP + DRIFT;

/**
 * `accepted`: the intent is durable. `checked`: its process exists, held, the agent has seen that the lease lasts, and is about to
 * let it run (in memory only; it may take as long as it likes). `ended`: nothing of it runs, and nothing will.
 */
export type ExecState = "absent" | "accepted" | "checked" | "running" | "stopping" | "ended";

export interface Version {
  readonly epoch: number;
  readonly revision: number;
}

/** What the store says of a node at one moment. `run` and `stop` are executions, -1 for none. */
export interface AssignmentSet extends Version {
  readonly run: number;
  readonly stop: number;
  /** Absence stops. */
  readonly confirmed: boolean;
  /** Nothing is to be started from it: the store was restored, and it is not yet known what runs elsewhere. */
  readonly held: boolean;
}

/** An answer to a lease request that was sent then. */
export interface LeaseAnswer extends Version {
  readonly sentAt: number;
}

export interface Node {
  /** The agent's process. Containers, the stopper and what is durable are not its. */
  readonly up: boolean;
  /** Real time of the stopper's deadline, as armed; durable. */
  readonly armedUntil: number;
  /** The last lease answer of this life of the agent. */
  readonly answered: Version | undefined;
  readonly applied: AssignmentSet;
  readonly execs: readonly ExecState[];
  /** The node (by its place among all) whose name it had until another agent got it: nobody answers it any more. */
  readonly ghostOf: number | undefined;
  /** On its way to the agent. */
  readonly lease: LeaseAnswer | undefined;
  readonly set: AssignmentSet | undefined;
}

export interface Store {
  readonly epoch: number;
  /** The execution that the task has now, -1 before the first. */
  readonly current: number;
  readonly wanted: "run" | "stop";
  /** The store knows that the current one has ended. */
  readonly ended: boolean;
  readonly hold: "none" | "restored" | "confirmed";
  readonly revision: readonly number[];
  /** When each node's lease was last written. */
  readonly leaseAt: readonly number[];
  /** Nodes that have shown, since the last restore, that they run nothing but what this store names. */
  readonly clean: readonly boolean[];
}

export interface Placed extends Version {
  readonly on: number;
}

export interface State {
  readonly now: number;
  readonly nodes: readonly Node[];
  readonly placed: readonly Placed[];
  readonly store: Store;
  readonly backup: Store | undefined;
  readonly restores: number;
  readonly ends: number;
  /** How often a name was given to another agent. */
  readonly heirs: number;
}

const NOTHING_APPLIED: AssignmentSet = { epoch: -1, revision: -1, run: -1, stop: -1, confirmed: false, held: true };

/** An agent with an empty data root. */
export function blankNode(now: number): Node {
  return {
    up: true,
    armedUntil: now - DRIFT - STOP,
    answered: undefined,
    applied: NOTHING_APPLIED,
    execs: [],
    ghostOf: undefined,
    lease: undefined,
    set: undefined,
  };
}

/** A fleet at rest: every node holds its lease and has taken its (empty) set. */
export function initialState(nodes: number): State {
  const applied = { epoch: 0, revision: 0, run: -1, stop: -1, confirmed: true, held: false };
  const node: Node = {
    up: true,
    armedUntil: TTL,
    answered: { epoch: 0, revision: 0 },
    applied,
    execs: [],
    ghostOf: undefined,
    lease: undefined,
    set: undefined,
  };
  const each = <T>(value: T): T[] => Array.from({ length: nodes }, () => value);
  const store: Store = {
    epoch: 0,
    current: -1,
    wanted: "run",
    ended: false,
    hold: "none",
    revision: each(0),
    leaseAt: each(0),
    clean: each(true),
  };
  return { now: 0, nodes: each(node), placed: [], store, backup: undefined, restores: 0, ends: 0, heirs: 0 };
}

/** Whose name a node has, or had. */
export const nameOf = ({ nodes }: State, index: number): number => nodes[index]!.ghostOf ?? index;

/** Does the container's program run, or may it from one moment to the next? */
export const isAlive = (exec: ExecState): boolean => exec === "running" || exec === "stopping";

export function execOf(node: Node, exec: number): ExecState {
  return node.execs[exec] ?? "absent";
}

export function withNode(state: State, index: number, patch: Partial<Node>): State {
  return { ...state, nodes: state.nodes.map((node, at) => (at === index ? { ...node, ...patch } : node)) };
}

export function withExec(state: State, index: number, exec: number, next: ExecState): State {
  const execs = Array.from({ length: Math.max(exec + 1, state.nodes[index]!.execs.length) }, (_, at) =>
    at === exec ? next : execOf(state.nodes[index]!, at),
  );
  return withNode(state, index, { execs });
}

export function withStore(state: State, patch: Partial<Store>): State {
  return { ...state, store: { ...state.store, ...patch } };
}

export const nodeName = (index: number): string => String.fromCharCode(65 + index);
export const execName = (exec: number): string => `X${exec + 1}`;
