export type { SnapshotterDeps } from "./directory-snapshotter.ts";
export { lowerDirectories, mountAll, unmountTarget, withTempMount, writableDirectory } from "./mounts.ts";
export { probe as probeNative } from "./native/probe.ts";
export { openNative, type NativeConfig } from "./native/snapshotter.ts";
export { probe as probeOverlayfs } from "./overlayfs/probe.ts";
export { openOverlayfs, overlayOptions, type OverlayfsConfig } from "./overlayfs/snapshotter.ts";
export { snapshotMigrations } from "./rows.ts";
export type { SnapshotRef, SnapshotRefs } from "./refs.ts";
export type {
  CommitOptions,
  ListedSnapshot,
  Mount,
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
