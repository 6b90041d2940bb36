/** Beginning executions of a task anew: every column that speaks of an execution is reset in one place. */
import type { TaskUpdate } from "@berth/store";
import type { TaskRow, WorkloadRow } from "@berth/store";
import type { ContainerColumns } from "./container.ts";

type Patch = TaskUpdate["patch"];

function freshExecution(row: TaskRow): Patch {
  return {
    phase: row.node === null ? "Pending" : "Assigned",
    reason: "",
    message: "",
    exitCode: null,
    oomKilled: false,
    startedAt: null,
    finishedAt: null,
    addresses: [],
    nextAttemptAt: null,
    health: "",
    availableSince: null,
    removed: false,
    // What is known of the node, not of the execution that ended; until it speaks, the earlier one's bound holds.
    ...(row.certainty === "unreachable" || row.certainty === "fenced"
      ? { certainty: row.certainty, possiblyUntil: row.possiblyUntil }
      : { certainty: "observed", possiblyUntil: null }),
  };
}

/** The same spec once more: (task, generation, attempt + 1). */
export function nextAttempt(row: TaskRow): Patch {
  // protocol: ExecutionMade
  return { ...freshExecution(row), attempt: row.attempt + 1, restarts: row.restarts + 1 };
}

/** The same spec, where there is room for it: what it held may be another's by now. */
export function placedAgain(row: TaskRow): Patch {
  const free = {
    node: null,
    nominatedNode: null,
    decisionId: null,
    certainty: "observed",
    possiblyUntil: null,
  } as const;
  return { ...nextAttempt({ ...row, ...free }), ...free };
}

/** A new spec: (task, generation + 1, 1). */
export function nextGeneration(
  row: TaskRow,
  { labels }: WorkloadRow,
  spec: ContainerColumns & Pick<TaskRow, "workloadGeneration" | "fence" | "beginsAgain">,
): Patch {
  return {
    ...freshExecution(row),
    ...spec,
    labels,
    generation: row.generation + 1,
    attempt: 1,
    failures: 0,
    imageDigest: "",
  };
}
