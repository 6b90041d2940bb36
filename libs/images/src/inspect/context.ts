/** What looking at images needs. */
import type { Clock } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata } from "@berth/metadata";
import type { NamespacedSnapshots } from "@berth/snapshots";
import type { ImageReferences } from "../gc/references.ts";
import type { ImageRow, ImageRows } from "../rows.ts";
import type { PolicyVerifier } from "../verify/verifier.ts";

export interface InspectionDeps {
  readonly metadata: Metadata;
  readonly rows: ImageRows;
  readonly content: ContentStore;
  readonly snapshotters: readonly NamespacedSnapshots[];
  readonly verifier: PolicyVerifier | undefined;
  readonly references: () => Promise<ImageReferences>;
  /** Of a use that is not written yet. */
  readonly notedAtMs: (namespace: string, name: string) => number | undefined;
  /** Drops a name with what speaks of it. */
  readonly remove: (namespace: string, name: string) => Promise<void>;
  /** Collects these keys (of pins.ts) alone, and gives the bytes that this freed. */
  readonly collectKeys: (keys: ReadonlySet<string>) => Promise<number>;
  readonly clock: Clock;
}

/** When a container was last started from it or it was pulled. */
export function lastUsedAtMs(deps: InspectionDeps, { record }: ImageRow): number {
  const { namespace, name, updatedAtMs } = record;
  const sql = "SELECT used_at_ms FROM image_uses WHERE namespace = ? AND name = ?";
  const written = Number(deps.metadata.get(sql, namespace, name)?.["used_at_ms"] ?? 0);
  return Math.max(written, deps.notedAtMs(namespace, name) ?? 0, updatedAtMs);
}
