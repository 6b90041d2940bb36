/** Snapshots by the host door. */
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import {
  GetMountsResponseSchema,
  ListSnapshotsResponseSchema,
  ListSnapshottersResponseSchema,
  RemoveSnapshotResponseSchema,
  SnapshotService,
  SnapshotUsageSchema,
  type ListSnapshotsRequest,
  type ListSnapshotsResponse,
} from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";
import type { NamespacedSnapshots, NamespacedSnapshotter, SnapshotKind } from "@berth/snapshots";
import { inBatches } from "./followed.ts";
import { toSnapshot } from "./wire.ts";

export interface SnapshotDeps {
  /** The default one first. */
  readonly snapshots: readonly NamespacedSnapshots[];
  readonly unusableSnapshotters: readonly { readonly name: string; readonly reason: string }[];
}

const BATCH = 250;

export function snapshotService(deps: SnapshotDeps): Implementation {
  const at = ({ namespace, snapshotter }: { readonly namespace: string; readonly snapshotter: string }) =>
    snapshotterOf(deps, snapshotter).namespace(namespace);
  return implement(SnapshotService, {
    listSnapshotters: async () => create(ListSnapshottersResponseSchema, { snapshotters: describe(deps) }),
    listSnapshots: (request) => list(at(request), request),
    getSnapshot: async (request) => toSnapshot(await at(request).stat(request.key)),
    getUsage: async (request) => {
      const { sizeBytes, inodes } = await at(request).usage(request.key);
      return create(SnapshotUsageSchema, { key: request.key, sizeBytes: BigInt(sizeBytes), inodes: BigInt(inodes) });
    },
    getMounts: async (request) => {
      const mounts = await at(request).mounts(request.key);
      return create(GetMountsResponseSchema, {
        mounts: mounts.map(({ type, source, options }) => ({ type, source, options: [...options] })),
      });
    },
    removeSnapshot: async (request) => {
      await at(request).remove(request.key);
      return create(RemoveSnapshotResponseSchema);
    },
  });
}

function describe({ snapshots, unusableSnapshotters }: SnapshotDeps) {
  const usable = snapshots.map(({ snapshotter: { name } }, index) => ({ name, usable: true, isDefault: index === 0 }));
  return [...usable, ...unusableSnapshotters.map(({ name, reason }) => ({ name, usable: false, reason }))];
}

async function* list(
  snapshotter: NamespacedSnapshotter,
  { parent, kind }: ListSnapshotsRequest,
): AsyncGenerator<ListSnapshotsResponse> {
  const filter = {
    ...(parent === "" ? {} : { parent }),
    ...(kind === "" ? {} : { kind: kind as SnapshotKind }),
  };
  for await (const batch of inBatches(snapshotter.walk(filter), BATCH)) {
    yield create(ListSnapshotsResponseSchema, { snapshots: batch.map(toSnapshot) });
  }
}

function snapshotterOf({ snapshots, unusableSnapshotters }: SnapshotDeps, name: string): NamespacedSnapshots {
  if (name === "") return snapshots[0]!;
  const found = snapshots.find(({ snapshotter }) => snapshotter.name === name);
  if (found !== undefined) return found;
  const why = unusableSnapshotters.find((each) => each.name === name)?.reason;
  if (why !== undefined) {
    const text = `snapshotter "${name}" cannot be used on this host: ${why}`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "SNAPSHOTTER_UNUSABLE" });
  }
  const names = snapshots.map(({ snapshotter }) => snapshotter.name).join(", ");
  throw new StatusError("NOT_FOUND", `there is no snapshotter "${name}" here; there is ${names}`, {
    reason: "SNAPSHOTTER_MISSING",
  });
}
