export { probe as probeBtrfs } from "./btrfs/probe.ts";
export { openBtrfs, type BtrfsConfig } from "./btrfs/snapshotter.ts";
export type { SnapshotterDeps } from "./directory-snapshotter.ts";
export * from "./mounting.ts";
export { probe as probeNative } from "./native/probe.ts";
export { openNative, type NativeConfig } from "./native/snapshotter.ts";
export { probe as probeOverlayfs } from "./overlayfs/probe.ts";
export { openOverlayfs, type OverlayfsConfig } from "./overlayfs/snapshotter.ts";
export { snapshotMigrations } from "./rows.ts";
export type { SnapshotRef, SnapshotRefs } from "./refs.ts";
export type {
  CommitOptions,
  ListedSnapshot,
  Mount,
  PrepareOptions,
  Snapshotter,
  SnapshotInfo,
  SnapshotKind,
  SnapshotOptions,
  SnapshotterCapabilities,
  SnapshotUsage,
} from "./snapshotter.ts";
export {
  NamespacedSnapshots,
  openNamespacedSnapshots,
  type NamespacedCommitOptions,
  type NamespacedDeps,
  type NamespacedSnapshotter,
} from "./namespaced.ts";
export { LABELS as SNAPSHOT_LABELS, type MissingQuota } from "./options.ts";
export type { Probe } from "./probe.ts";
export { probe as probeZfs } from "./zfs/probe.ts";
export { openZfs, type ZfsConfig } from "./zfs/snapshotter.ts";
export { snapshotHandlers, type ResolveSnapshotter, type SnapshotHandlers } from "./proxy/handlers.ts";
export { probe as probeProxy } from "./proxy/probe.ts";
export { serveSnapshots } from "./proxy/serve.ts";
export { openProxy, type ProxyCapability, type ProxyConfig, type ProxyDeps } from "./proxy/snapshotter.ts";
