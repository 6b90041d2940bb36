/**
 * The rules that make the protocol safe, each of which can be taken out: a mutation is the protocol without one of them. The
 * test shows that the explorer finds the harm of each, so that none is there for nothing.
 */
import { DRIFT, SAFE_AFTER, STOP, TTL } from "./state.ts";

export interface Rules {
  /** How long after the last written lease the controller takes a silent node's execution to be gone. */
  readonly replaceAfter: number;
  /** How long after the last written lease a node's name may be another agent's. */
  readonly giveAfter: number;
  /** What the one before possibly ran is begun by the new one under a number of its own. */
  readonly newNumbers: boolean;
  /** The agent counts the lease from the moment it sent the request, not from the answer. */
  readonly countFromSend: boolean;
  /** The lease is answered after it is written. */
  readonly answerAfterWrite: boolean;
  /** The stopper is a process of its own, armed by a file. */
  readonly stopperOutlivesAgent: boolean;
  /** The process exists (and the stopper knows it) before the lease is looked at, so that what is started late is gone. */
  readonly createBeforeCheck: boolean;
  /** Only what is newer than the lease's answer, or in a set as new as that answer, is started. */
  readonly startOnlyCurrent: boolean;
  /** An end is taken for the execution it names only (D3). */
  readonly endsByExecution: boolean;
  /** A restored store starts nothing before every node has shown what it runs, or has been silent for long enough. */
  readonly holdAfterRestore: boolean;
  /** A restored store gets a new epoch (D5). */
  readonly newEpoch: boolean;
}

export const PROTOCOL: Rules = {
  replaceAfter: SAFE_AFTER,
  giveAfter: SAFE_AFTER,
  newNumbers: true,
  countFromSend: true,
  answerAfterWrite: true,
  stopperOutlivesAgent: true,
  createBeforeCheck: true,
  startOnlyCurrent: true,
  endsByExecution: true,
  holdAfterRestore: true,
  newEpoch: true,
};

export const MUTATIONS: Readonly<Record<string, Partial<Rules>>> = {
  "T without the clocks' drift": { replaceAfter: TTL + STOP },
  "T without the time a stop takes": { replaceAfter: TTL + DRIFT },
  "replaced as soon as the lease has run out": { replaceAfter: TTL },
  "a name given as soon as the lease has run out": { giveAfter: TTL },
  "a name given with the executions of the one before": { newNumbers: false },
  "the deadline counted from the answer": { countFromSend: false },
  "the lease answered before it is written": { answerAfterWrite: false },
  "the stopper ends with the agent": { stopperOutlivesAgent: false },
  "the lease looked at before the process exists": { createBeforeCheck: false },
  "started without a look at the lease's revision": { startOnlyCurrent: false },
  "ends taken for whatever runs now": { endsByExecution: false },
  "a restored store places at once": { holdAfterRestore: false },
  "a restored store nobody noticed": { holdAfterRestore: false, newEpoch: false },
};
