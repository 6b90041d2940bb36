/** `berthd leases …` */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { LeaseResourceSchema, LeaseSchema, LeaseService } from "@berth/proto/host";
import { ageOf, labelsOf, parseDuration, parseLabels, printJson, printList, timeOf, type Session } from "./session.ts";

export async function list(session: Session, filters: readonly string[]): Promise<void> {
  const { namespace } = session;
  const { leases } = await session.client(LeaseService).listLeases({ namespace, filters: [...filters] });
  printList(session, LeaseSchema, leases, [
    { heading: "ID", cell: ({ id }) => id },
    { heading: "AGE", cell: ({ createdAt }) => ageOf(createdAt) },
    { heading: "EXPIRES", cell: ({ expiresAt }) => timeOf(expiresAt) },
    { heading: "LABELS", cell: ({ labels }) => labelsOf(labels) },
  ]);
}

export async function create(
  session: Session,
  id: string | undefined,
  options: { readonly expires?: string; readonly label?: readonly string[] },
): Promise<void> {
  const { namespace } = session;
  const expires = options.expires === undefined ? undefined : parseDuration(options.expires, "--expires");
  const lease = await session.client(LeaseService).createLease({
    namespace,
    id: id ?? "",
    labels: parseLabels(options.label ?? []),
    ...(expires === undefined ? {} : { expiresAt: timestampFromMs(Date.now() + expires) }),
  });
  if (session.json) return printJson(session, LeaseSchema, lease);
  session.out(lease.id);
}

export async function remove(
  session: Session,
  ids: readonly string[],
  options: { readonly sync?: boolean },
): Promise<void> {
  const client = session.client(LeaseService);
  for (const id of ids) {
    await client.deleteLease({ namespace: session.namespace, id, sync: options.sync ?? false });
    session.out(id);
  }
}

export async function add(session: Session, id: string, type: string, resource: string): Promise<void> {
  const { namespace } = session;
  await session.client(LeaseService).addLeaseResource({ namespace, id, resource: { type, id: resource } });
  session.out(`${id} holds ${type} ${resource}`);
}

export async function release(session: Session, id: string, type: string, resource: string): Promise<void> {
  const { namespace } = session;
  await session.client(LeaseService).removeLeaseResource({ namespace, id, resource: { type, id: resource } });
  session.out(`${id} no longer holds ${type} ${resource}`);
}

export async function resources(session: Session, id: string): Promise<void> {
  const found = await session.client(LeaseService).listLeaseResources({ namespace: session.namespace, id });
  printList(session, LeaseResourceSchema, found.resources, [
    { heading: "TYPE", cell: ({ type }) => type },
    { heading: "ID", cell: (resource) => resource.id },
  ]);
}
