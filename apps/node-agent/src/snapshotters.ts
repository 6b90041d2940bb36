/**
 * Opens the snapshotters that this host can have: our own by their probes, others by the sockets that the configuration
 * names. What cannot be used is left out with its reason; only without the configured default is the agent refused.
 */
import { join } from "node:path";
import { StatusError, type Lifetime, type Logger } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import type { Metadata } from "@berth/metadata";
import {
  openBtrfs,
  openNamespacedSnapshots,
  openNative,
  openOverlayfs,
  openProxy,
  openZfs,
  probeBtrfs,
  probeNative,
  probeOverlayfs,
  probeProxy,
  probeZfs,
  type NamespacedSnapshots,
  type Probe,
  type Snapshotter,
} from "@berth/snapshots";

export interface UnusableSnapshotter {
  readonly name: string;
  readonly reason: string;
}

export interface Snapshotters {
  /** The default one first. */
  readonly snapshots: readonly NamespacedSnapshots[];
  readonly unusable: readonly UnusableSnapshotter[];
}

export interface SnapshottersDeps {
  readonly metadata: Metadata;
  readonly lifetime: Lifetime;
  readonly logger: Logger;
}

interface Candidate {
  readonly name: string;
  /** Whose failure is another program's, and no reason not to start. */
  readonly remote: boolean;
  probe(): Probe | Promise<Probe>;
  open(): Promise<Snapshotter>;
}

/** @throws FAILED_PRECONDITION `SNAPSHOTTER_UNUSABLE` when the default of the configuration cannot be used. */
export async function openSnapshotters(config: AgentConfig, deps: SnapshottersDeps): Promise<Snapshotters> {
  const { logger } = deps;
  const opened: NamespacedSnapshots[] = [];
  const unusable: UnusableSnapshotter[] = [];
  for (const candidate of candidates(config, deps)) {
    const result = await open(candidate, deps);
    if (typeof result !== "string") {
      opened.push(result);
      continue;
    }
    const { name } = candidate;
    unusable.push({ name, reason: result });
    // Most hosts have no btrfs and no zfs: that is no cause for concern unless somebody counted on it.
    const expected = candidate.remote || name === config.snapshotter || name === "overlayfs";
    logger[expected ? "warn" : "info"](
      { snapshotter: name, reason: result },
      `snapshotter ${name} cannot be used: ${result}`,
    );
  }
  const preferred = opened.find(({ snapshotter }) => snapshotter.name === config.snapshotter);
  if (preferred === undefined) throw missingDefault(config, opened, unusable);
  return { snapshots: [preferred, ...opened.filter((each) => each !== preferred)], unusable };
}

function candidates(config: AgentConfig, { metadata, logger }: SnapshottersDeps): readonly Candidate[] {
  const missingQuota = config.missingSnapshotQuota;
  const deps = { metadata, logger, missingQuota };
  const own = [
    { name: "overlayfs", probe: probeOverlayfs, open: openOverlayfs },
    { name: "native", probe: probeNative, open: openNative },
    { name: "btrfs", probe: probeBtrfs, open: openBtrfs },
    { name: "zfs", probe: probeZfs, open: openZfs },
  ].map(({ name, probe, open }) => {
    const root = join(config.root, "snapshots", name);
    return { name, remote: false, probe: () => probe(root), open: () => open(deps, { root }) };
  });
  const proxies = Object.entries(config.proxySnapshotters).map(([name, { address, snapshotter, capabilities }]) => {
    const proxy = { name, address, capabilities, ...(snapshotter === undefined ? {} : { snapshotter }) };
    return {
      name,
      remote: true,
      probe: () => probeProxy(proxy),
      open: () => openProxy({ logger, missingQuota }, proxy),
    };
  });
  return [...own, ...proxies];
}

/** Opened, or why not. */
async function open(
  { remote, ...candidate }: Candidate,
  { metadata, lifetime }: SnapshottersDeps,
): Promise<NamespacedSnapshots | string> {
  const result = await candidate.probe();
  if (!result.usable) return result.reason;
  try {
    const snapshotter = lifetime.own(await candidate.open());
    return await openNamespacedSnapshots({ snapshotter, metadata });
  } catch (error) {
    if (!remote) throw error;
    return StatusError.from(error).message;
  }
}

function missingDefault(
  { snapshotter }: AgentConfig,
  opened: readonly NamespacedSnapshots[],
  unusable: readonly UnusableSnapshotter[],
): StatusError {
  const names = opened.map((each) => each.snapshotter.name).join(", ");
  const why = unusable.find(({ name }) => name === snapshotter)?.reason ?? "there is none of that name";
  const text = `snapshotter ${JSON.stringify(snapshotter)} (of the configuration) cannot be used here: ${why}; usable: ${names || "none"}`;
  return new StatusError("FAILED_PRECONDITION", text, { reason: "SNAPSHOTTER_UNUSABLE" });
}
