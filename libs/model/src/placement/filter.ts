/**
 * Why a node will not do for a task. In the order in which an operator would ask: first what never changes by placing
 * (labels, taints, handlers), then where the others are, then room.
 *
 * Invariant: a task is placed only where `misfits` yields nothing.
 */
import { formatSelector } from "../selector.ts";
import type { NodeTerm, PlacementRules, PlacementTask } from "./ask.ts";
import { formatRequirement, meetsRequirement } from "./label-requirement.ts";
import type { Candidate, PlacementNode } from "./node.ts";
import { CORDONED, formatTaint, isTolerated, NOT_READY, UNREACHABLE } from "./taints.ts";
import type { TaskClass, TermAspect } from "./task-class.ts";
import { hasDomain } from "./topology.ts";

export const MISFIT_KINDS = [
  "unreachable",
  "ready",
  "cordoned",
  "taint",
  "label",
  "affinity",
  "runtime",
  "snapshotter",
  "stopper",
  "topology",
  "skew",
  "near",
  "apart",
  "repelled",
  "port",
  "tasks",
  "cpu",
  "memory",
] as const;
export type MisfitKind = (typeof MISFIT_KINDS)[number];

/** `kind` and `what` group nodes of the same reason; `left` is what they have of what is asked. */
export interface Misfit {
  readonly kind: MisfitKind;
  readonly what: string;
  readonly left: number;
}

/** The least count of each hard spread rule's domains, in the order of the class's rules; they are asked for many nodes. */
export type SpreadFloors = readonly number[];

export function* misfits(cls: TaskClass, candidate: Candidate, floors: SpreadFloors): Generator<Misfit> {
  yield* staticMisfits(cls, candidate.node);
  yield* topologyMisfits(cls, candidate.node, floors);
  yield* roomMisfits(cls.task, candidate);
}

export function firstMisfit(found: Iterable<Misfit>): Misfit | undefined {
  for (const misfit of found) return misfit;
  return undefined;
}

/** Do its labels and taints let tasks with these rules in? */
export function admits(rules: PlacementRules, node: Pick<PlacementNode, "labels" | "taints">): boolean {
  return firstMisfit(admissionMisfits(rules, node)) === undefined;
}

function* admissionMisfits(rules: PlacementRules, node: Pick<PlacementNode, "labels" | "taints">): Generator<Misfit> {
  for (const taint of node.taints) {
    if (taint.effect === "PreferNoSchedule" || isTolerated(taint, rules.tolerations)) continue;
    if (taint.key === UNREACHABLE.key) yield misfit("unreachable");
    else if (taint.key === NOT_READY.key) yield misfit("ready");
    else if (taint.key === CORDONED.key) yield misfit("cordoned");
    else yield misfit("taint", formatTaint(taint));
  }
  for (const [key, value] of Object.entries(rules.nodeSelector)) {
    if (!Object.hasOwn(node.labels, key) || node.labels[key] !== value) yield misfit("label", `${key}=${value}`);
  }
  const { required } = rules.nodeAffinity;
  if (required.length > 0 && !required.some((term) => meetsTerm(term, node))) {
    yield misfit("affinity", required.map(formatTerm).join(" or "));
  }
}

/** What no placing changes. */
export function* staticMisfits({ task, spread, near }: TaskClass, node: PlacementNode): Generator<Misfit> {
  yield* admissionMisfits(task.rules, node);
  if (task.runtimeHandler !== "" && !node.runtimeHandlers.includes(task.runtimeHandler)) {
    yield misfit("runtime", task.runtimeHandler);
  }
  if (task.snapshotter !== "" && !node.snapshotters.includes(task.snapshotter)) {
    yield misfit("snapshotter", task.snapshotter);
  }
  if (task.fence === true && node.stopper !== true) yield misfit("stopper");
  for (const { topologyKey, hard } of spread) {
    if (hard && !hasDomain(node, topologyKey)) yield misfit("topology", topologyKey);
  }
  for (const { term } of near) if (!hasDomain(node, term.topologyKey)) yield misfit("topology", term.topologyKey);
}

/** Where the others are. */
export function* topologyMisfits(cls: TaskClass, node: PlacementNode, floors: SpreadFloors): Generator<Misfit> {
  for (const [index, { counter, hard, maxSkew, topologyKey }] of cls.spread.entries()) {
    if (!hard) continue;
    if (counter.on(node) + 1 - floors[index]! > maxSkew) yield misfit("skew", topologyKey, maxSkew);
  }
  for (const aspect of cls.near) {
    if (!isNear(aspect, aspect.counter.on(node))) yield misfit("near", words(aspect));
  }
  for (const aspect of cls.apart) {
    if (aspect.counter.on(node) > 0) yield misfit("apart", words(aspect));
  }
  for (const aspect of cls.repelled) {
    if (hasDomain(node, aspect.term.topologyKey) && aspect.counter.on(node) > 0) {
      yield misfit("repelled", words(aspect));
    }
  }
}

/** The first of its own kind may come where none is yet. */
export function isNear({ counter, matchesItself }: TermAspect, count: number): boolean {
  return count > 0 || (counter.total === 0 && matchesItself);
}

export function* roomMisfits(task: PlacementTask, candidate: Candidate): Generator<Misfit> {
  const { node } = candidate;
  for (const port of task.hostPorts) if (candidate.holdsPort(port)) yield misfit("port", port);
  if (node.maxTasks > 0 && candidate.tasks >= node.maxTasks) yield misfit("tasks");
  const cpuLeft = node.cpuMillis - candidate.cpuMillis;
  if (task.cpuMillis > 0 && task.cpuMillis > cpuLeft) yield misfit("cpu", "", cpuLeft);
  const memoryLeft = node.memoryBytes - candidate.memoryBytes;
  if (task.memoryBytes > 0 && task.memoryBytes > memoryLeft) yield misfit("memory", "", memoryLeft);
}

export function meetsTerm(term: NodeTerm, node: Pick<PlacementNode, "labels">): boolean {
  return term.every((requirement) => meetsRequirement(requirement, node.labels));
}

export const formatTerm = (term: NodeTerm): string => term.map(formatRequirement).join(",");

/** `app=web in its zone`, `app=web on it`. */
function words({ term }: TermAspect): string {
  return `${formatSelector(term.selector)} ${term.topologyKey === "" ? "on it" : `in its ${term.topologyKey}`}`;
}

function misfit(kind: MisfitKind, what = "", left = 0): Misfit {
  return { kind, what, left };
}
