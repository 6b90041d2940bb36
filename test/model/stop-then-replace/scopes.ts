/** How far the exploration goes. */
export interface Scope {
  readonly nodes: number;
  readonly maxExecs: number;
  readonly maxRestores: number;
  /** Names that are given to another agent. */
  readonly maxHeirs: number;
  /** Ends that the node does not bring about: an exit, an order to stop. */
  readonly maxEnds: number;
  /** Without them no state is lost: an agent that forgets is one that takes no step. For the mutations. */
  readonly crashes: boolean;
  /** The answer of a lease may arrive after other steps. Without it no state is lost: see `LeaseGranted`. */
  readonly lateAnswers: boolean;
}

/** All of it is seen within seconds: some 80,000 states. */
export const SMALL: Scope = {
  nodes: 2,
  maxExecs: 2,
  maxRestores: 0,
  maxHeirs: 0,
  maxEnds: 1,
  crashes: false,
  lateAnswers: false,
};

/** For walks. */
export const LARGE: Scope = {
  nodes: 3,
  maxExecs: 8,
  maxRestores: 2,
  maxHeirs: 2,
  maxEnds: 6,
  crashes: true,
  lateAnswers: true,
};

/** The bound of executions is the exploration's, not the system's. */
export const unbounded = (scope: Scope): Scope => ({ ...scope, maxExecs: Number.POSITIVE_INFINITY });
