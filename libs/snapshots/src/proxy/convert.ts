/** Our records and containerd's messages. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { InfoSchema, Kind, type MountSchema, type Info, type Mount as WireMount } from "@berth/proto/containerd";
import { StatusError } from "@berth/base";
import type { Mount, SnapshotInfo, SnapshotKind } from "../snapshotter.ts";

const KINDS: Readonly<Record<SnapshotKind, Kind>> = {
  view: Kind.VIEW,
  active: Kind.ACTIVE,
  committed: Kind.COMMITTED,
};

export function infoToWire(info: SnapshotInfo): Info {
  return create(InfoSchema, {
    name: info.key,
    parent: info.parent,
    kind: KINDS[info.kind],
    createdAt: timestampFromMs(info.createdAtMs),
    updatedAt: timestampFromMs(info.updatedAtMs),
    labels: { ...info.labels },
  });
}

/** @throws INTERNAL for a kind that nobody knows. */
export function infoFromWire(info: Info | undefined): SnapshotInfo {
  const kind = (Object.keys(KINDS) as SnapshotKind[]).find((name) => KINDS[name] === info?.kind);
  if (info === undefined || kind === undefined) {
    throw new StatusError("INTERNAL", `snapshot "${info?.name ?? ""}": the proxy gave no kind that is known`);
  }
  const { name, parent, labels, createdAt, updatedAt } = info;
  const createdAtMs = createdAt === undefined ? 0 : timestampMs(createdAt);
  return {
    key: name,
    kind,
    parent,
    labels,
    createdAtMs,
    updatedAtMs: updatedAt ? timestampMs(updatedAt) : createdAtMs,
  };
}

export function mountsToWire(mounts: readonly Mount[]): MessageInitShape<typeof MountSchema>[] {
  return mounts.map(({ type, source, options }) => ({ type, source, options: [...options] }));
}

export function mountsFromWire(mounts: readonly WireMount[]): readonly Mount[] {
  return mounts.map(({ type, source, options }) => ({ type, source, options }));
}
