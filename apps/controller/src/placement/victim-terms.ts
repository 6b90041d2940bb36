/** On what terms tasks of a workload may be stopped for the sake of others: how many more, and whether two may run at a time. */
import { fromJson } from "@bufbuild/protobuf";
import { disruptionBudget } from "@berth/model";
import { WorkloadSpecSchema } from "@berth/proto";
import { workloadSizes, type TaskRow, type TaskUpdate, type Tx } from "@berth/store";
import { replacesLost } from "../reconcile/plan-loss.ts";

export interface VictimTerms {
  /** Of workloads that state a disruption budget: how many more tasks it allows to be down. */
  readonly allowance: ReadonlyMap<string, number>;
  /** Workloads of which two must not run in one slot: the slot stays taken until nothing is left of what is stopped. */
  readonly holdsSlot: ReadonlySet<string>;
}

export async function victimTerms(tx: Tx, workloadUids: readonly string[]): Promise<VictimTerms> {
  const allowance = new Map<string, number>();
  const holdsSlot = new Set<string>();
  for (const { uid, spec: stored, live, up } of await workloadSizes(tx, workloadUids)) {
    const spec = fromJson(WorkloadSpecSchema, stored, { ignoreUnknownFields: true });
    if (!spec.everyNode && !replacesLost(spec)) holdsSlot.add(uid);
    if (spec.disruption === undefined) continue;
    const wanted = spec.everyNode ? live : (spec.replicas ?? 1);
    allowance.set(uid, disruptionBudget(spec.disruption, wanted, up).left);
  }
  return { allowance, holdsSlot };
}

/** Its workload makes another, which is placed when there is room. */
export function stopPatch(row: TaskRow, holdsSlot: ReadonlySet<string>): TaskUpdate["patch"] {
  return {
    desired: "Stop",
    nextAttemptAt: null,
    deletedAt: row.deletedAt ?? new Date(),
    holdsSlot: holdsSlot.has(row.workloadUid),
  };
}
