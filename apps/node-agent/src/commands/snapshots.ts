/** `berthd snapshots …` */
import { formatBytes } from "@berth/base/terminal";
import {
  ListSnapshottersResponseSchema,
  MountSchema,
  SnapshotSchema,
  SnapshotService,
  SnapshotterSchema,
  SnapshotUsageSchema,
  type Snapshot,
  type SnapshotUsage,
} from "@berth/proto/host";
import { ageOf, labelsOf, printFields, printJson, printList, timeOf, type Session } from "./session.ts";

export interface SnapshotOptions {
  readonly snapshotter?: string;
}

export async function list(
  session: Session,
  options: SnapshotOptions & { readonly parent?: string; readonly kind?: string },
): Promise<void> {
  printList(session, SnapshotSchema, await all(session, options), [
    { heading: "KEY", cell: ({ key }) => key },
    { heading: "KIND", cell: ({ kind }) => kind },
    { heading: "PARENT", cell: ({ parent }) => parent || "-" },
    { heading: "AGE", cell: ({ createdAt }) => ageOf(createdAt) },
  ]);
}

export async function info(session: Session, key: string, options: SnapshotOptions): Promise<void> {
  const snapshot = await session.client(SnapshotService).getSnapshot({ ...at(session, options), key });
  if (session.json) return printJson(session, SnapshotSchema, snapshot);
  printFields(session, [
    ["Key", snapshot.key],
    ["Kind", snapshot.kind],
    ["Parent", snapshot.parent || "-"],
    ["Labels", labelsOf(snapshot.labels)],
    ["Created", timeOf(snapshot.createdAt)],
    ["Updated", timeOf(snapshot.updatedAt)],
  ]);
}

export async function usage(session: Session, keys: readonly string[], options: SnapshotOptions): Promise<void> {
  const client = session.client(SnapshotService);
  const wanted = keys.length > 0 ? keys : (await all(session, options)).map(({ key }) => key);
  const rows: SnapshotUsage[] = [];
  for (const key of wanted) rows.push(await client.getUsage({ ...at(session, options), key }));
  printList(session, SnapshotUsageSchema, rows, [
    { heading: "KEY", cell: ({ key }) => key },
    { heading: "SIZE", cell: ({ sizeBytes }) => formatBytes(sizeBytes) },
    { heading: "INODES", cell: ({ inodes }) => String(inodes) },
  ]);
}

/** As mount(8) takes them, so that they can be used. */
export async function mounts(session: Session, key: string, options: SnapshotOptions): Promise<void> {
  const found = await session.client(SnapshotService).getMounts({ ...at(session, options), key });
  if (session.json) return printList(session, MountSchema, found.mounts, []);
  for (const mount of found.mounts) {
    const given = mount.options.length === 0 ? "" : ` -o ${mount.options.join(",")}`;
    session.out(`mount -t ${mount.type} ${mount.source}${given} TARGET`);
  }
}

export async function remove(session: Session, keys: readonly string[], options: SnapshotOptions): Promise<void> {
  const client = session.client(SnapshotService);
  for (const key of keys) {
    await client.removeSnapshot({ ...at(session, options), key });
    session.out(key);
  }
}

export async function snapshotters(session: Session): Promise<void> {
  const found = await session.client(SnapshotService).listSnapshotters({});
  if (session.json) return printJson(session, ListSnapshottersResponseSchema, found);
  printList(session, SnapshotterSchema, found.snapshotters, [
    { heading: "NAME", cell: ({ name, isDefault }) => (isDefault ? `${name} (default)` : name) },
    { heading: "USABLE", cell: ({ usable }) => (usable ? "yes" : "no") },
    { heading: "WHY NOT", cell: ({ reason }) => reason || "-" },
  ]);
}

function at({ namespace }: Session, { snapshotter }: SnapshotOptions): { namespace: string; snapshotter: string } {
  return { namespace, snapshotter: snapshotter ?? "" };
}

async function all(
  session: Session,
  options: SnapshotOptions & { readonly parent?: string; readonly kind?: string },
): Promise<Snapshot[]> {
  const request = { ...at(session, options), parent: options.parent ?? "", kind: options.kind ?? "" };
  const found: Snapshot[] = [];
  for await (const { snapshots } of session.client(SnapshotService).listSnapshots(request)) found.push(...snapshots);
  return found;
}
