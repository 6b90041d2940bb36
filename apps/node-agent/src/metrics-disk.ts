/**
 * What the writable layers of running containers take, where the file system itself counts that (quotas of btrfs; project
 * quotas, for what is bounded). Elsewhere there is no such series: finding out would mean to look at every file, at every scrape.
 */
import { SNAPSHOT_LABELS, type NamespacedSnapshots, type Snapshotter } from "@berth/snapshots";
import { registerContainerGauges, type ContainerGaugesDeps } from "./container-gauges.ts";
import type { Container } from "./engine/container.ts";

export interface DiskMetricsDeps extends ContainerGaugesDeps {
  readonly snapshots: () => readonly NamespacedSnapshots[];
}

/** cAdvisor's names. */
export function registerDiskMetrics(deps: DiskMetricsDeps): void {
  const help = {
    container_fs_usage_bytes:
      "What a container's writable layer takes, where the file system counts that; may be half a minute old",
    container_fs_limit_bytes: "The most that a container's writable layer may take, where the file system counts that",
  };
  registerContainerGauges(deps, help, async ({ container }) => {
    const snapshots = snapshotterOf(container, deps.snapshots());
    const usedBytes = await snapshots?.countedBytes?.(container.snapshotKey);
    if (snapshots === undefined || usedBytes === undefined) return {};
    const bound = (await snapshots.stat(container.snapshotKey)).labels[SNAPSHOT_LABELS.maxSize];
    const limit = bound === undefined ? undefined : Number(bound);
    return { container_fs_usage_bytes: usedBytes, container_fs_limit_bytes: limit };
  });
}

function snapshotterOf(
  { namespace, plan }: Container,
  snapshots: readonly NamespacedSnapshots[],
): Snapshotter | undefined {
  return snapshots.find(({ snapshotter }) => snapshotter.name === plan.snapshotter)?.namespace(namespace);
}
