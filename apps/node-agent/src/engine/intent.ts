/** What a door asks of the engine about a task, and what became of the asking (D2). */
import type { StatusError } from "@berth/base";
import type { ExecutionKey } from "./execution.ts";
import type { ContainerPlan } from "./plan.ts";

/** Where an intent comes from: the controller's store and the node's revision in it (D5). */
export interface Origin {
  readonly storeEpoch: string;
  readonly revision: number;
}

export interface TaskIntent extends ExecutionKey {
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
}

export interface RunIntent extends TaskIntent {
  /** Or why it cannot be run at all. */
  readonly plan: ContainerPlan | StatusError;
}

/** `taken`: durable now. `known`: it was before. `stale`: something newer is known, so this one is ignored. */
export type IntentOutcome = "taken" | "known" | "stale";
