/** What an operator says of a node for placement: taints, and how much of it may be promised. */
import { StatusError, type FieldViolation } from "@berth/base";
import type { TaintEffect } from "@berth/model";
import type { NodeSpec, Taint } from "@berth/proto";
import type { NodePatch, NodeRow, NodeTaint } from "@berth/store";

/** Set by the controller from what it sees; an operator's of the same name would be taken for it. */
const OWN_PREFIX = "berth.io/";

/** What is different. @throws INVALID_ARGUMENT `FIELD_INVALID` */
export function schedulingPatch(row: NodeRow, { taints, overcommit }: NodeSpec, now: Date): NodePatch {
  const wanted = storedTaints(row, taints, now);
  const { cpuPercent = 0, memoryPercent = 0 } = overcommit ?? {};
  return {
    ...(sameTaints(wanted, row.taints) ? {} : { taints: wanted }),
    ...(cpuPercent === row.cpuOvercommit ? {} : { cpuOvercommit: cpuPercent }),
    ...(memoryPercent === row.memoryOvercommit ? {} : { memoryOvercommit: memoryPercent }),
  };
}

/** One that is there already keeps its time: tolerated seconds count from it. */
function storedTaints(row: NodeRow, given: readonly Taint[], now: Date): NodeTaint[] {
  const violations = given.flatMap((taint, index): FieldViolation[] => problemsOf(taint, given, index));
  if (violations.length > 0) throw StatusError.invalid(violations);
  return given.map(({ key, value, effect }) => {
    const known = row.taints.find((each) => each.key === key && each.effect === (effect || "NoSchedule"));
    const addedAt = known?.value === value ? known.addedAt : now.toISOString();
    return { key, value, effect: (effect || "NoSchedule") as TaintEffect, addedAt };
  });
}

function problemsOf({ key, effect }: Taint, all: readonly Taint[], index: number): FieldViolation[] {
  const field = `spec.taints[${index}].key`;
  if (key.startsWith(OWN_PREFIX)) {
    const description = `${JSON.stringify(key)} is set by the controller from the node's state; use a prefix of your own`;
    return [{ field, description }];
  }
  const first = all.findIndex((each) => each.key === key && (each.effect || "NoSchedule") === (effect || "NoSchedule"));
  if (first === index) return [];
  return [{ field, description: `repeats key and effect of spec.taints[${first}]; leave one of them out` }];
}

function sameTaints(a: readonly NodeTaint[], b: readonly NodeTaint[]): boolean {
  return JSON.stringify(a.map(sortable).sort()) === JSON.stringify(b.map(sortable).sort());
}

const sortable = ({ key, value, effect }: NodeTaint): string => JSON.stringify([key, value, effect]);
