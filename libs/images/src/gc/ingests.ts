/** Ingests that would go, for a dry run: those of ended leases, and those nobody has written to for long. */
import type { ContentStore, IngestStatus } from "@berth/content";
import type { LeaseRows } from "../leases/rows.ts";
import type { GcItem } from "./gc.ts";
import type { Graph } from "./graph.ts";

export interface IngestDeps {
  readonly content: Pick<ContentStore, "listStatuses" | "ingestLeases">;
  readonly leases: LeaseRows;
  readonly namespaces: readonly string[];
  readonly ttlMs: number;
  readonly nowMs: number;
}

export async function endedIngests(deps: IngestDeps, graph: Graph): Promise<readonly GcItem[]> {
  const expired = new Map<string, string>();
  const added = new Map<string, string>();
  for (const { lease, resources } of graph.expiredLeases) {
    const reason = `lease "${lease.id}" expired`;
    expired.set(`${lease.namespace} ${lease.id}`, reason);
    for (const { type, id } of resources) if (type === "ingests") added.set(`${lease.namespace} ${id}`, reason);
  }
  const namespaces = new Set(deps.namespaces);
  for (const { namespace } of await deps.content.ingestLeases()) namespaces.add(namespace);
  for (const { lease } of graph.expiredLeases) namespaces.add(lease.namespace);
  const why = (namespace: string, { ref, lease, updatedAtMs }: IngestStatus): string | undefined => {
    if (lease !== undefined) {
      const there = deps.leases.find(namespace, lease) !== undefined;
      return there ? expired.get(`${namespace} ${lease}`) : `lease "${lease}" is gone`;
    }
    if (added.has(`${namespace} ${ref}`)) return added.get(`${namespace} ${ref}`);
    const hours = Math.floor((deps.nowMs - updatedAtMs) / 3_600_000);
    return deps.nowMs - updatedAtMs > deps.ttlMs ? `nobody has written to it for ${hours} h` : undefined;
  };
  const items: GcItem[] = [];
  for (const namespace of namespaces) {
    for (const status of await deps.content.listStatuses(namespace)) {
      const reason = why(namespace, status);
      if (reason === undefined) continue;
      items.push({ kind: "ingest", namespace, key: status.ref, bytes: status.offsetBytes, reason });
    }
  }
  return items;
}
