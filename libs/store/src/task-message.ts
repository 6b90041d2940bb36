/** A task's row as the message that the API gives, and as the JSON form of that message, which the change feed keeps. Pure. */
import { create } from "@bufbuild/protobuf";
import { replacementSafety } from "@berth/model";
import {
  ReplacementSafetySchema,
  TaskSchema,
  TaskSpecSchema,
  TaskStatusSchema,
  type Stop,
  type Task,
} from "@berth/proto";
import { metadataOf, optional, timestampOf } from "./messages.ts";
import { int64, list, metadataJson, set, timestamp, type Unwritten } from "./proto-json.ts";
import { containerOf, type TaskRow } from "./task-rows.ts";

/** Messages of alike tasks share their container: it is not to be written to. */
export function taskMessage(row: TaskRow): Task {
  const { verdict, at, why } = replacementSafety(row);
  return create(TaskSchema, {
    metadata: metadataOf(row),
    spec: create(TaskSpecSchema, {
      workload: row.workload,
      workloadUid: row.workloadUid,
      slot: row.slot,
      node: row.node ?? "",
      container: containerOf(row),
      workloadGeneration: BigInt(row.workloadGeneration),
      desired: row.desired,
      fence: row.fence,
    }),
    status: create(TaskStatusSchema, {
      observedGeneration: BigInt(row.observedGeneration),
      attempt: row.attempt,
      phase: row.phase,
      reason: row.reason,
      message: row.message,
      certainty: row.certainty,
      ...optional("possiblyUntil", timestampOf(row.possiblyUntil)),
      ...optional("exitCode", row.exitCode ?? undefined),
      oomKilled: row.oomKilled,
      ...optional("startedAt", timestampOf(row.startedAt)),
      ...optional("finishedAt", timestampOf(row.finishedAt)),
      addresses: row.addresses,
      restarts: row.restarts,
      imageDigest: row.imageDigest,
      ...optional("nextAttemptAt", timestampOf(row.nextAttemptAt)),
      health: row.health,
      replacement: create(ReplacementSafetySchema, { verdict, why, ...optional("at", timestampOf(at ?? null)) }),
    }),
  });
}

/** The JSON form of {@link taskMessage}. The container is in that form already. */
export function taskJson(row: TaskRow): Unwritten {
  const { verdict, at, why } = replacementSafety(row);
  return {
    metadata: metadataJson(row),
    spec: {
      workload: set(row.workload),
      workloadUid: set(row.workloadUid),
      slot: set(row.slot),
      node: set(row.node),
      container: row.container,
      workloadGeneration: int64(row.workloadGeneration),
      desired: set(row.desired),
      fence: set(row.fence),
    },
    status: {
      observedGeneration: int64(row.observedGeneration),
      attempt: set(row.attempt),
      phase: set(row.phase),
      reason: set(row.reason),
      message: set(row.message),
      certainty: set(row.certainty),
      possiblyUntil: timestamp(row.possiblyUntil),
      exitCode: row.exitCode ?? undefined,
      oomKilled: set(row.oomKilled),
      startedAt: timestamp(row.startedAt),
      finishedAt: timestamp(row.finishedAt),
      addresses: list(row.addresses),
      restarts: set(row.restarts),
      imageDigest: set(row.imageDigest),
      nextAttemptAt: timestamp(row.nextAttemptAt),
      health: set(row.health),
      replacement: { verdict, at: timestamp(at ?? null), why },
    },
  };
}

/** How it is to be stopped, as its spec says. */
export function taskStop(row: TaskRow): Stop | undefined {
  return containerOf(row).stop;
}
