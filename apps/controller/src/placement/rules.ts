/** A workload's `placement` in the words of the model, with what it leaves out filled in. */
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import {
  ANYWHERE,
  parseSelector,
  type Affinity,
  type LabelOperator,
  type LabelRequirement,
  type PlacementRules,
  type SpreadRule,
  type TaintEffect,
  type TaskTerm,
  type Toleration,
} from "@berth/model";
import { PlacementSchema, type NodeAffinity, type Placement, type TaskAffinity, type Toleration as TolerationMessage } from "@berth/proto"; // prettier-ignore

/** Of what is stored. @param namespace the workload's own, in which its terms select */
export function rulesOf(stored: JsonObject | null, namespace: string): PlacementRules {
  if (stored === null) return ANYWHERE;
  return placementRules(fromJson(PlacementSchema, stored, { ignoreUnknownFields: true }), namespace);
}

export function placementRules(placement: Placement | undefined, namespace: string): PlacementRules {
  if (placement === undefined) return ANYWHERE;
  return {
    nodeSelector: placement.nodeSelector,
    nodeAffinity: nodeAffinityOf(placement.nodeAffinity),
    taskAffinity: taskAffinityOf(placement.taskAffinity, namespace),
    taskAntiAffinity: taskAffinityOf(placement.taskAntiAffinity, namespace),
    tolerations: placement.tolerations.map(tolerationOf),
    spread: spreadOf(placement),
    gang: placement.gang,
    priority: placement.priority,
    preempts: placement.preemption !== "Never",
  };
}

function spreadOf({ spread, spreadBy }: Placement): SpreadRule[] {
  const rules = spread.map(({ topologyKey, maxSkew, whenUnsatisfiable }) => ({
    topologyKey,
    maxSkew: maxSkew || 1,
    hard: whenUnsatisfiable === "DoNotSchedule",
  }));
  if (spreadBy === "" || rules.some(({ topologyKey }) => topologyKey === spreadBy)) return rules;
  return [{ topologyKey: spreadBy, maxSkew: 1, hard: false }, ...rules];
}

function nodeAffinityOf(affinity: NodeAffinity | undefined): PlacementRules["nodeAffinity"] {
  return {
    required: (affinity?.required ?? []).map(({ match }) => match.map(requirementOf)),
    preferred: (affinity?.preferred ?? []).map(({ weight, match }) => ({ weight, term: match.map(requirementOf) })),
  };
}

function requirementOf({
  key,
  operator,
  values,
}: {
  key: string;
  operator: string;
  values: string[];
}): LabelRequirement {
  return { key, operator: (operator || "In") as LabelOperator, values };
}

function taskAffinityOf(affinity: TaskAffinity | undefined, namespace: string): Affinity<TaskTerm> {
  const termOf = (term: { selector: string; topologyKey: string }): TaskTerm => ({
    namespace,
    selector: parseSelector(term.selector),
    topologyKey: term.topologyKey,
  });
  return {
    required: (affinity?.required ?? []).map(termOf),
    preferred: (affinity?.preferred ?? []).map(({ weight, term }) => ({ weight, term: termOf(term!) })),
  };
}

export function tolerationOf({ key, operator, value, effect, tolerateFor }: TolerationMessage): Toleration {
  return {
    key,
    // A toleration without a key is one of every taint.
    operator: operator === "Exists" || key === "" ? "Exists" : "Equal",
    value,
    effect: effect as TaintEffect | "",
    seconds: tolerateFor === undefined ? undefined : Number(tolerateFor.seconds),
  };
}
