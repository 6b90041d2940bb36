/**
 * NamespaceService. Deleting marks a namespace as Terminating and wakes the reconciler, which deletes what it owns; the row
 * goes when nothing is left in it.
 */
import { create } from "@bufbuild/protobuf";
import {
  ListNamespacesResponseSchema,
  NamespaceSchema,
  NamespaceService,
  NamespaceSpecSchema,
  NamespaceStatusSchema,
  type Namespace,
  type NamespaceSpec,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  countNamespaces,
  getNamespace,
  holdNamespace,
  insertEvents,
  insertNamespace,
  listNamespaces,
  lockNamespace,
  namespaceMessage,
  updateNamespace,
  type NamespaceRow,
  type NewEvent,
  type Tx,
} from "@berth/store";
import { getAsOf, listAsOf } from "./as-of.ts";
import { applyResource, type ApplyDeps } from "./apply.ts";
import { goingAway, namespaceMissing, notFound } from "./refusals.ts";
import { appliedMetadata, selectorScope } from "./scope.ts";

const PAST = { kind: "Namespace", schema: NamespaceSchema } as const;

export function namespaceService(deps: ApplyDeps): Implementation {
  const { store } = deps;
  return implement(NamespaceService, {
    applyNamespace: ({ namespace, dryRun }) => applyNamespace(deps, namespace!, dryRun),
    async getNamespace({ name, asOf }) {
      if (asOf !== undefined) return await getAsOf(store, { ...PAST, asOf, namespace: "", name });
      const row = await getNamespace(store.db, name);
      if (row === undefined) throw notFound("namespace", name);
      return await withCounts(store.db, row);
    },
    async listNamespaces({ selector, pageSize, pageToken, asOf }) {
      const query = { pageSize, pageToken, ...selectorScope(selector) };
      if (asOf !== undefined) {
        const { items, nextPageToken } = await listAsOf(store, { ...PAST, asOf, ...query });
        return create(ListNamespacesResponseSchema, { items, nextPageToken });
      }
      const { items, nextPageToken } = await listNamespaces(store.db, query);
      const counts = await countNamespaces(
        store.db,
        items.map(({ name }) => name),
      );
      return create(ListNamespacesResponseSchema, {
        items: items.map((row) => namespaceMessage(row, counts.get(row.name))),
        nextPageToken,
      });
    },
    deleteNamespace: ({ name }) => store.transaction((tx) => deleteNamespace(tx, name)),
  });
}

function applyNamespace(deps: ApplyDeps, namespace: Namespace, dryRun: boolean): Promise<Namespace> {
  const metadata = appliedMetadata(namespace.metadata, false);
  const spec = namespace.spec ?? create(NamespaceSpecSchema);
  return applyResource(deps, {
    noun: "namespace",
    metadata,
    specSchema: NamespaceSpecSchema,
    spec,
    dryRun,
    lock: (tx) => lockNamespace(tx, metadata.name),
    specOf: (row: NamespaceRow) => specOf(row),
    async insert(tx) {
      const row = await insertNamespace(tx, { name: metadata.name, labels: metadata.labels, spec });
      await insertEvents(tx, [eventOf(row, "/namespaces/create", "Created")]);
      return row;
    },
    async update(tx, row, patch) {
      const updated = await updateNamespace(tx, row, patch);
      await insertEvents(tx, [eventOf(updated, "/namespaces/update", "Updated")]);
      return updated;
    },
    resourceOf: (row) => namespaceMessage(row),
    preview: (shown) =>
      create(NamespaceSchema, { metadata: shown, spec, status: create(NamespaceStatusSchema, { phase: "Active" }) }),
  });
}

async function deleteNamespace(tx: Tx, name: string): Promise<Namespace> {
  const row = await lockNamespace(tx, name);
  if (row === undefined) throw notFound("namespace", name);
  if (row.deletedAt !== null) return await withCounts(tx, row);
  const updated = await updateNamespace(tx, row, { deletedAt: new Date() });
  await insertEvents(tx, [eventOf(updated, "/namespaces/delete", "Deleting")]);
  return await withCounts(tx, updated);
}

async function withCounts(tx: Tx, row: NamespaceRow): Promise<Namespace> {
  return namespaceMessage(row, (await countNamespaces(tx, [row.name])).get(row.name));
}

/** Keeps a namespace from going away while something is put into it. @throws FAILED_PRECONDITION when it does not take any */
export async function holdForUse(tx: Tx, name: string): Promise<void> {
  const row = await holdNamespace(tx, name);
  if (row === undefined) throw namespaceMissing(name);
  if (row.deletedAt !== null) throw goingAway("namespace", name);
}

function specOf(row: NamespaceRow): NamespaceSpec {
  return namespaceMessage(row).spec!;
}

function eventOf(row: NamespaceRow, topic: string, reason: string): NewEvent {
  return { namespace: row.name, topic, kind: "Namespace", name: row.name, uid: row.uid, reason };
}
