/**
 * One try of a task on this node, named by (task, generation, attempt) and by nothing else (D2), and what may follow what.
 *
 *   accepted ─► starting ─► running ──────────────► exited ─┐
 *       │           │          └──► stopping ──────────┘      ├─► removed
 *       └───────────┴─► failed ───────────────────────────────┘
 *
 * `desired` is what was last asked for; `state` is what is. `cleaned` says that nothing of it is left on the host but its
 * log (A6). A removed one stays as a tombstone for a while, so that a late job does not run it again.
 */
import type { Health } from "./health/probe-plan.ts";
import type { ContainerPlan } from "./plan.ts";

export interface ExecutionKey {
  readonly taskUid: string;
  readonly generation: number;
  readonly attempt: number;
}

export type ExecutionState = "accepted" | "starting" | "running" | "stopping" | "exited" | "failed" | "removed";

export interface Execution extends ExecutionKey {
  readonly namespace: string;
  /** The task's name, for people. */
  readonly name: string;
  readonly desired: "run" | "stop";
  readonly state: ExecutionState;
  readonly cleaned: boolean;
  /** Of the job or set that asked for it (D5). */
  readonly storeEpoch: string;
  readonly revision: number;
  /** Absent for one that was only ever to be stopped. */
  readonly plan: ContainerPlan | undefined;
  /** The boot in which it was last begun: after another one nothing of it runs. */
  readonly bootId: string;
  readonly imageDigest: string;
  readonly stopSignal: string;
  /** While it runs: what its probes last said, and why (`health/`). */
  readonly health: Health;
  readonly healthReason: string;
  readonly healthMessage: string;
}

/** Below 0 when `a` is older. */
export function compareKeys(a: Omit<ExecutionKey, "taskUid">, b: Omit<ExecutionKey, "taskUid">): number {
  return a.generation - b.generation || a.attempt - b.attempt;
}

export function describeKey({ taskUid, generation, attempt }: ExecutionKey): string {
  return `${taskUid}-${generation}-${attempt}`;
}

/** May it still come to run, or does it run? */
export function isLive(state: ExecutionState): boolean {
  return state === "accepted" || state === "starting" || state === "running" || state === "stopping";
}
