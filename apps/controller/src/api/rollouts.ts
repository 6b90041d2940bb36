/**
 * What users do to rollouts: hold them, let them go, go back, begin anew; and the history to go back in. Each is one transaction
 * on the workload's row; the reconciler does the rest (`reconcile/rollout.ts`).
 */
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import {
  ListWorkloadRevisionsResponseSchema,
  WorkloadSpecSchema,
  type ListWorkloadRevisionsResponse,
  type UndoRolloutRequest,
  type Workload,
} from "@berth/proto";
import {
  getWorkload,
  insertEvents,
  lockWorkload,
  revisionMessage,
  revisionSpec,
  revisionsOf,
  updateWorkload,
  withTemplate,
  workloadMessage,
  workloadSpec,
  type RevisionRow,
  type Store,
  type Tx,
  type WorkloadRow,
} from "@berth/store";
import { equals } from "@bufbuild/protobuf";
import { refuseJob } from "./jobs.ts";
import { goingAway, notFound } from "./refusals.ts";

interface Named {
  readonly namespace: string;
  readonly name: string;
}

export function rolloutMethods(store: Store) {
  return {
    listWorkloadRevisions: (named: Named) => store.snapshot((tx) => history(tx, named)),
    pauseRollout: (named: Named) => store.transaction((tx) => hold(tx, named, true)),
    resumeRollout: (named: Named) => store.transaction((tx) => hold(tx, named, false)),
    undoRollout: (request: UndoRolloutRequest) => store.transaction((tx) => undo(tx, request)),
    restartRollout: (request: Named & { readonly cause: string }) =>
      store.transaction((tx) => restart(tx, request, request.cause)),
  };
}

async function history(tx: Tx, { namespace, name }: Named): Promise<ListWorkloadRevisionsResponse> {
  const row = await getWorkload(tx, namespace, name);
  if (row === undefined) throw notFound("workload", name, namespace);
  const revisions = await revisionsOf(tx, row.uid);
  return create(ListWorkloadRevisionsResponseSchema, { items: revisions.map(revisionMessage) });
}

async function hold(tx: Tx, named: Named, paused: boolean): Promise<Workload> {
  const row = await lock(tx, named);
  refuseJob(row.name, workloadSpec(row), "it is not rolled out, so there is nothing to hold");
  if (row.paused === paused) return workloadMessage(row);
  const updated = await updateWorkload(tx, row, { paused });
  await tell(tx, updated, paused ? "Paused" : "Resumed", "");
  return workloadMessage(updated);
}

async function undo(tx: Tx, request: UndoRolloutRequest): Promise<Workload> {
  const row = await lock(tx, request);
  const wanted = revisionToGoTo(row, await revisionsOf(tx, row.uid), Number(request.toRevision));
  const before = workloadSpec(row);
  const spec = withTemplate(before, revisionSpec(wanted));
  if (equals(WorkloadSpecSchema, before, spec)) {
    const message = `workload "${row.name}" already has the spec of revision ${wanted.revision}; berth rollout history ${row.name} lists others`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "NOTHING_TO_UNDO" });
  }
  const cause = request.cause || `undo to revision ${wanted.revision}`;
  const updated = await updateWorkload(tx, row, { spec, cause });
  await tell(tx, updated, "Updated", cause);
  return workloadMessage(updated);
}

function revisionToGoTo(row: WorkloadRow, revisions: readonly RevisionRow[], to: number): RevisionRow {
  const found = revisions.find(({ revision }) => (to === 0 ? revision < row.revision : revision === to));
  if (found !== undefined) return found;
  const kept = revisions.map(({ revision }) => revision).join(", ");
  const message =
    to === 0
      ? `workload "${row.name}" has no earlier revision to go back to`
      : `workload "${row.name}" has no revision ${to}; kept are ${kept}`;
  throw new StatusError("NOT_FOUND", message, { reason: "REVISION_NOT_FOUND" });
}

async function restart(tx: Tx, named: Named, cause: string): Promise<Workload> {
  const row = await lock(tx, named);
  const updated = await updateWorkload(tx, row, { spec: workloadSpec(row), restart: true, cause });
  await tell(tx, updated, "Updated", cause || "restart of every task");
  return workloadMessage(updated);
}

async function lock(tx: Tx, { namespace, name }: Named): Promise<WorkloadRow> {
  const row = await lockWorkload(tx, namespace, name);
  if (row === undefined) throw notFound("workload", name, namespace);
  if (row.deletedAt !== null) throw goingAway("workload", name);
  return row;
}

async function tell(tx: Tx, row: WorkloadRow, reason: string, message: string): Promise<void> {
  const { namespace, name, uid } = row;
  await insertEvents(tx, [{ namespace, topic: "/workloads/update", kind: "Workload", name, uid, reason, message }]);
}
