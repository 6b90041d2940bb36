/**
 * WorkloadService: what is to run. Deleting marks a workload; the reconciler stops its tasks and removes the row when none
 * is left.
 */
import { clone, create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { selectorMatches } from "@berth/model";
import {
  ListWorkloadsResponseSchema,
  WatchWorkloadsResponseSchema,
  WorkloadSchema,
  WorkloadService,
  WorkloadSpecSchema,
  type Workload,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  getWorkload,
  insertEvents,
  insertWorkload,
  listWorkloads,
  lockWorkload,
  updateWorkload,
  workloadMessage,
  workloadSpec,
  type NewEvent,
  type Tx,
  type WorkloadRow,
} from "@berth/store";
import { getAsOf, listAsOf } from "./as-of.ts";
import { applyResource, type ApplyDeps } from "./apply.ts";
import { storedWorkloadSpec } from "./defaults.ts";
import { refuseJob } from "./jobs.ts";
import { allPages, listPage } from "./list.ts";
import { holdForUse } from "./namespaces.ts";
import { goingAway, notFound } from "./refusals.ts";
import { rolloutMethods } from "./rollouts.ts";
import { appliedMetadata, namespaceScope, selectorScope } from "./scope.ts";
import { watchResources, type WatchDeps } from "./watch.ts";

const PAST = { kind: "Workload", schema: WorkloadSchema } as const;

export function workloadService(deps: ApplyDeps & WatchDeps): Implementation {
  const { store } = deps;
  return implement(WorkloadService, {
    ...rolloutMethods(store),
    applyWorkload: ({ workload, dryRun, cause }) => applyWorkload(deps, workload!, dryRun, cause),
    async getWorkload({ namespace, name, asOf }) {
      if (asOf !== undefined) return await getAsOf(store, { ...PAST, asOf, namespace, name });
      const row = await getWorkload(store.db, namespace, name);
      if (row === undefined) throw notFound("workload", name, namespace);
      return workloadMessage(row);
    },
    async listWorkloads({ namespace, selector, pageSize, pageToken, asOf }) {
      const query = { pageSize, pageToken, ...namespaceScope(namespace), ...selectorScope(selector) };
      if (asOf !== undefined) {
        return create(ListWorkloadsResponseSchema, await listAsOf(store, { ...PAST, asOf, ...query }));
      }
      const { items, ...rest } = await listPage(store, (tx) => listWorkloads(tx, query));
      return create(ListWorkloadsResponseSchema, { items: items.map(workloadMessage), ...rest });
    },
    scaleWorkload: ({ namespace, name, replicas }) => store.transaction((tx) => scale(tx, namespace, name, replicas)),
    deleteWorkload: ({ namespace, name }) => store.transaction((tx) => deleteWorkload(tx, namespace, name)),
    async *watchWorkloads({ namespace, selector, cursor }, { signal }) {
      const scope = namespaceScope(namespace);
      const labels = selectorScope(selector);
      const watch = watchResources(
        deps,
        {
          kind: "Workload",
          schema: WorkloadSchema,
          cursor,
          ...scope,
          list: async (tx) =>
            (await allPages((page) => listWorkloads(tx, { ...page, ...scope, ...labels }))).map(workloadMessage),
          ...(labels.selector === undefined
            ? {}
            : { matches: ({ metadata }: Workload) => selectorMatches(labels.selector!, metadata!.labels) }),
        },
        signal,
      );
      for await (const { event, resource } of watch) {
        yield create(WatchWorkloadsResponseSchema, { event, ...(resource && { workload: resource }) });
      }
    },
  });
}

function applyWorkload(deps: ApplyDeps, workload: Workload, dryRun: boolean, cause: string): Promise<Workload> {
  const metadata = appliedMetadata(workload.metadata, true);
  const { namespace, name, labels } = metadata;
  const spec = storedWorkloadSpec(workload.spec!);
  return applyResource(deps, {
    noun: "workload",
    metadata,
    specSchema: WorkloadSpecSchema,
    spec,
    dryRun,
    async lock(tx) {
      await holdForUse(tx, namespace);
      return await lockWorkload(tx, namespace, name);
    },
    specOf: (row: WorkloadRow) => workloadSpec(row),
    async insert(tx) {
      const row = await insertWorkload(tx, { namespace, name, labels, spec, cause });
      await insertEvents(tx, [eventOf(row, "/workloads/create", "Created", "")]);
      return row;
    },
    async update(tx, row, patch) {
      const updated = await updateWorkload(tx, row, { ...patch, cause });
      await insertEvents(tx, [eventOf(updated, "/workloads/update", "Updated", `generation ${updated.generation}`)]);
      return updated;
    },
    resourceOf: (row) => workloadMessage(row),
    preview: (shown, row) =>
      create(WorkloadSchema, { metadata: shown, spec, ...(row && { status: workloadMessage(row).status! }) }),
  });
}

async function scale(tx: Tx, namespace: string, name: string, replicas: number): Promise<Workload> {
  const row = await lockWorkload(tx, namespace, name);
  if (row === undefined) throw notFound("workload", name, namespace);
  if (row.deletedAt !== null) throw goingAway("workload", name);
  const spec = clone(WorkloadSpecSchema, workloadSpec(row));
  if (spec.everyNode) {
    const message = `workload "${name}" runs on every node; label nodes to change where, or apply it with replicas`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "EVERY_NODE" });
  }
  refuseJob(name, spec, "apply it with other job.completions or job.parallelism");
  if (spec.replicas === replicas) return workloadMessage(row);
  const words = `from ${spec.replicas} to ${replicas} replicas`;
  spec.replicas = replicas;
  const updated = await updateWorkload(tx, row, { spec });
  await insertEvents(tx, [eventOf(updated, "/workloads/update", "Scaled", words)]);
  return workloadMessage(updated);
}

async function deleteWorkload(tx: Tx, namespace: string, name: string): Promise<Workload> {
  const row = await lockWorkload(tx, namespace, name);
  if (row === undefined) throw notFound("workload", name, namespace);
  if (row.deletedAt !== null) return workloadMessage(row);
  const updated = await updateWorkload(tx, row, { deletedAt: new Date() });
  await insertEvents(tx, [eventOf(updated, "/workloads/delete", "Deleting", "")]);
  return workloadMessage(updated);
}

function eventOf(row: WorkloadRow, topic: string, reason: string, message: string): NewEvent {
  const { namespace, name, uid } = row;
  return { namespace, topic, kind: "Workload", name, uid, reason, message };
}
