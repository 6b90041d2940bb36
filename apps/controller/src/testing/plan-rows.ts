/** Rows for tests of the plan, without a store: a workload, its tasks, and what carrying out a plan makes of them. */
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { ContainerSpecSchema } from "@berth/proto";
import type { NewTask, TaskRow, WorkloadRow } from "@berth/store";
import type { Plan } from "../reconcile/plan.ts";

export const NOW = new Date(1_700_000_000_000);
export const CONTAINER = create(ContainerSpecSchema, { image: "busybox" });

const container = toJson(ContainerSpecSchema, CONTAINER) as JsonObject;
const resource = { labels: {}, generation: 1, resourceVersion: 1, createdAt: NOW, deletedAt: null };

export const WORKLOAD: WorkloadRow = {
  ...resource,
  uid: "w",
  namespace: "shop",
  name: "web",
  spec: {},
  status: {},
  priority: 0,
  revision: 1,
  paused: false,
};

const TASK: TaskRow = {
  ...resource,
  uid: "",
  namespace: "shop",
  name: "",
  workload: "web",
  workloadUid: "w",
  workloadGeneration: 1,
  slot: 0,
  pinnedNode: null,
  nominatedNode: null,
  decisionId: null,
  node: null,
  container,
  desired: "Run",
  cpuMillis: 0,
  memoryBytes: 0,
  hostPorts: [],
  fence: false,
  observedGeneration: 1,
  attempt: 1,
  phase: "Pending",
  reason: "",
  message: "",
  certainty: "observed",
  possiblyUntil: null,
  exitCode: null,
  oomKilled: false,
  startedAt: null,
  finishedAt: null,
  addresses: [],
  restarts: 0,
  imageDigest: "",
  nextAttemptAt: null,
  beginsAgain: "always",
  holdsSlot: false,
  removed: false,
  failures: 0,
  health: "",
  availableSince: null,
};

export function taskRow(parts: Partial<TaskRow>): TaskRow {
  return { ...TASK, ...parts };
}

/** As the reconciler carries a plan out: what is removed, then what is changed, then what is new. */
export function carriedOut(tasks: readonly TaskRow[], plan: Plan): TaskRow[] {
  const gone = new Set(plan.remove.map((row) => row.uid));
  const patches = new Map<string, Partial<TaskRow>>();
  for (const { before, patch } of plan.update) {
    if (patches.has(before.uid)) throw new Error(`${before.name} is changed twice by one plan`);
    patches.set(before.uid, patch);
  }
  const made = plan.create.map((row: NewTask) => taskRow({ ...row, node: null, phase: "Pending" }));
  const after = [
    ...tasks.filter((row) => !gone.has(row.uid)).map((row) => ({ ...row, ...patches.get(row.uid) })),
    ...made,
  ];
  const slots = after.filter((row) => row.desired === "Run" && row.slot >= 0).map((row) => row.slot);
  if (new Set(slots).size < slots.length) throw new Error(`a slot has two wanted tasks: ${slots.join(", ")}`);
  return after;
}
