/**
 * What a task asks of its place, in the words of a workload's `placement`. Data only: what it means is in the files beside.
 *
 * A topology key is the label whose values are the failure domains (`zone`, `rack`); the empty key is each node by itself.
 */
import type { Requirement } from "../selector.ts";
import type { LabelRequirement } from "./label-requirement.ts";
import type { Toleration } from "./taints.ts";

/** All of them must hold. */
export type NodeTerm = readonly LabelRequirement[];

export interface Weighted<T> {
  /** 1 to 100. */
  readonly weight: number;
  readonly term: T;
}

export interface SpreadRule {
  readonly topologyKey: string;
  /** The most that a domain may have above the least filled one. */
  readonly maxSkew: number;
  /** A domain that would be too far ahead is no place at all; otherwise it is only the worse one. */
  readonly hard: boolean;
}

/** Placed tasks of a namespace that carry these labels, and how near is meant. */
export interface TaskTerm {
  readonly namespace: string;
  readonly selector: readonly Requirement[];
  readonly topologyKey: string;
}

export interface Affinity<T> {
  readonly required: readonly T[];
  readonly preferred: readonly Weighted<T>[];
}

/** Of a workload: the same object for all of its tasks. */
export interface PlacementRules {
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** One of the required terms must hold, when there are any. */
  readonly nodeAffinity: Affinity<NodeTerm>;
  readonly taskAffinity: Affinity<TaskTerm>;
  readonly taskAntiAffinity: Affinity<TaskTerm>;
  readonly tolerations: readonly Toleration[];
  readonly spread: readonly SpreadRule[];
  /** All tasks that wait for a node are placed together, or none is. */
  readonly gang: boolean;
  readonly priority: number;
  /** May tasks of lower priority be stopped for its sake? */
  readonly preempts: boolean;
}

export interface PlacementTask {
  readonly uid: string;
  readonly namespace: string;
  readonly workloadUid: string;
  /** Tasks of one workload ask by the same rules where this is the same. */
  readonly revision?: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  /** `tcp/8080` */
  readonly hostPorts: readonly string[];
  /** Empty: the node's default. */
  readonly runtimeHandler: string;
  readonly snapshotter: string;
  readonly image: string;
  /** Only where the node's stopper works (onNodeLoss: stopThenReplace). */
  readonly fence?: boolean;
  /** The only node that will do; null: any. */
  readonly pinnedNode: string | null;
  /** Where room is being made for it; null: nowhere. */
  readonly nominatedNode: string | null;
  readonly rules: PlacementRules;
}

const NO_AFFINITY: Affinity<never> = { required: [], preferred: [] };

/** Of a workload that asks for nothing: anywhere, spread over nodes. */
export const ANYWHERE: PlacementRules = {
  nodeSelector: {},
  nodeAffinity: NO_AFFINITY,
  taskAffinity: NO_AFFINITY,
  taskAntiAffinity: NO_AFFINITY,
  tolerations: [],
  spread: [],
  gang: false,
  priority: 0,
  preempts: true,
};
