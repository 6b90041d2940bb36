/**
 * RegistryMirrorService: how all nodes reach registries. What is stored reaches them by itself: each change raises a revision
 * that the answers to their leases carry.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import {
  ListRegistryMirrorsResponseSchema,
  RegistryMirrorSchema,
  RegistryMirrorService,
  RegistryMirrorSpecSchema,
  type RegistryMirror,
} from "@berth/proto";
import { mirrorProblems } from "@berth/registry";
import { implement, type Implementation } from "@berth/rpc";
import {
  getRegistryMirror,
  insertEvents,
  insertRegistryMirror,
  listRegistryMirrors,
  lockRegistryMirror,
  registryMirrorMessage,
  registryMirrorOf,
  registryMirrorSpec,
  removeRegistryMirror,
  updateRegistryMirror,
  type NewEvent,
  type RegistryMirrorRow,
  type Tx,
} from "@berth/store";
import { applyResource, type ApplyDeps } from "./apply.ts";
import { notFound } from "./refusals.ts";
import { appliedMetadata, selectorScope } from "./scope.ts";

/** One is one message to the nodes, with room for others. */
const MAX_BYTES = 128 * 1024;

export function registryMirrorService(deps: ApplyDeps): Implementation {
  const { store } = deps;
  return implement(RegistryMirrorService, {
    applyRegistryMirror: ({ mirror, dryRun }) => applyMirror(deps, mirror!, dryRun),
    async getRegistryMirror({ name }) {
      const row = await getRegistryMirror(store.db, name);
      if (row === undefined) throw notFound("registry mirror", name);
      return registryMirrorMessage(row);
    },
    async listRegistryMirrors({ selector, pageSize, pageToken }) {
      const query = { pageSize, pageToken, ...selectorScope(selector) };
      const { items, nextPageToken } = await listRegistryMirrors(store.db, query);
      return create(ListRegistryMirrorsResponseSchema, { items: items.map(registryMirrorMessage), nextPageToken });
    },
    deleteRegistryMirror: ({ name }) => store.transaction((tx) => deleteMirror(tx, name)),
  });
}

function applyMirror(deps: ApplyDeps, mirror: RegistryMirror, dryRun: boolean): Promise<RegistryMirror> {
  const metadata = appliedMetadata(mirror.metadata, false);
  const { name, labels } = metadata;
  const spec = mirror.spec!;
  const problems = mirrorProblems(spec);
  const bytes = toBinary(RegistryMirrorSpecSchema, spec).length;
  if (bytes > MAX_BYTES) problems.push({ field: "spec", description: `takes ${bytes} bytes; at most ${MAX_BYTES}` });
  if (problems.length > 0) throw StatusError.invalid(problems);
  return applyResource(deps, {
    noun: "registry mirror",
    metadata,
    specSchema: RegistryMirrorSpecSchema,
    spec,
    dryRun,
    async lock(tx) {
      const row = await lockRegistryMirror(tx, name);
      await refuseSecond(tx, spec.registry, name);
      return row;
    },
    specOf: (row: RegistryMirrorRow) => registryMirrorSpec(row),
    async insert(tx) {
      const row = await insertRegistryMirror(tx, { name, labels, spec });
      await insertEvents(tx, [eventOf(row, "/registrymirrors/create", "Created")]);
      return row;
    },
    async update(tx, row, patch) {
      const updated = await updateRegistryMirror(tx, row, patch);
      await insertEvents(tx, [eventOf(updated, "/registrymirrors/update", "Updated")]);
      return updated;
    },
    resourceOf: (row) => registryMirrorMessage(row),
    preview: (shown) => create(RegistryMirrorSchema, { metadata: shown, spec }),
  });
}

/** Two would contradict each other. */
async function refuseSecond(tx: Tx, registry: string, name: string): Promise<void> {
  const other = await registryMirrorOf(tx, registry);
  if (other === undefined || other.name === name) return;
  const description = `${registry} has the mirror "${other.name}" already; change that one, or delete it first`;
  throw StatusError.invalid([{ field: "spec.registry", description }]);
}

async function deleteMirror(tx: Tx, name: string): Promise<RegistryMirror> {
  const row = await lockRegistryMirror(tx, name);
  if (row === undefined) throw notFound("registry mirror", name);
  await removeRegistryMirror(tx, row);
  await insertEvents(tx, [eventOf(row, "/registrymirrors/delete", "Deleted")]);
  return registryMirrorMessage(row);
}

function eventOf(row: RegistryMirrorRow, topic: string, reason: string): NewEvent {
  const message = `registry ${row.registry}, generation ${row.generation}`;
  return { topic, kind: "RegistryMirror", name: row.name, uid: row.uid, reason, message };
}
