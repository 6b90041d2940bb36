/**
 * The state of the specification of assignments and attempts: one task on one node, the store, the queue, the journal.
 *
 * Executions are numbered in the order in which (generation, attempt) orders them. Jobs lie in the queue from their dispatch on
 * and may be taken at any time, again, or never; a wiped Redis empties it. Sets are read at one moment and applied at a later
 * one, several at a time. Journal entries arrive as often as they like, in any order.
 */
export interface Version {
  readonly epoch: number;
  readonly revision: number;
}

export interface AssignmentSet extends Version {
  /** The execution that is wanted, -1 for none: the task is absent. */
  readonly run: number;
  readonly confirmed: boolean;
}

export interface Job extends Version {
  readonly kind: "run" | "stop";
  readonly exec: number;
}

/** What the node's row of an execution says. */
export type RowState = "none" | "intent" | "running" | "ended" | "removed";

export interface Row {
  readonly state: RowState;
  readonly wanted: boolean;
  readonly origin: Version;
  /** What is there of it in truth, whatever the row says. */
  readonly process: "none" | "running" | "gone";
  readonly starts: number;
  /** A stop of it was taken; only the checker looks at this. */
  readonly stopTaken: boolean;
}

export interface Entry {
  readonly exec: number;
  readonly what: "started" | "ended";
}

export interface Store {
  readonly epoch: number;
  readonly confirmed: boolean;
  readonly revision: number;
  /** -1: the task was deleted, or was never placed. */
  readonly exec: number;
  readonly desired: "run" | "stop";
  readonly phase: "assigned" | "running" | "ended";
  readonly reachable: boolean;
  /** Entries of the journal that are stored. */
  readonly stored: number;
}

export interface State {
  readonly store: Store;
  readonly backup: Store | undefined;
  readonly outbox: readonly Job[];
  readonly queue: readonly Job[];
  readonly sets: readonly AssignmentSet[];
  readonly applied: Version;
  readonly rows: readonly Row[];
  readonly journal: readonly Entry[];
  /** A container that a kubelet or somebody's `ctr` made. */
  readonly foreignRuns: boolean;
  readonly execs: number;
  readonly faults: number;
}

const NO_ROW: Row = {
  state: "none",
  wanted: false,
  origin: { epoch: 0, revision: 0 },
  process: "none",
  starts: 0,
  stopTaken: false,
};

export const initialState: State = {
  store: {
    epoch: 0,
    confirmed: true,
    revision: 0,
    exec: -1,
    desired: "run",
    phase: "assigned",
    reachable: true,
    stored: 0,
  },
  backup: undefined,
  outbox: [],
  queue: [],
  sets: [],
  applied: { epoch: 0, revision: 0 },
  rows: [],
  journal: [],
  foreignRuns: true,
  execs: 0,
  faults: 0,
};

export const rowOf = (state: Pick<State, "rows">, exec: number): Row => state.rows[exec] ?? NO_ROW;

export function withRow(state: State, exec: number, patch: Partial<Row>): State {
  const length = Math.max(exec + 1, state.rows.length);
  const rows = Array.from({ length }, (_, at) => (at === exec ? { ...rowOf(state, at), ...patch } : rowOf(state, at)));
  return { ...state, rows };
}

export function withStore(state: State, patch: Partial<Store>): State {
  return { ...state, store: { ...state.store, ...patch } };
}

/** The newest execution that the node has heard of. */
export function newest({ rows }: State): number {
  return rows.findLastIndex((row) => row.state !== "none");
}

export const execName = (exec: number): string => `X${exec + 1}`;
