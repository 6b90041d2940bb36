/** What a thread needs to write into snapshots (`@berth/snapshots/mounting`), without the snapshotters: it starts faster so. */
export { lowerDirectories, mountAll, unmountTarget, withTempMount, writableDirectory } from "./mounts.ts";
export { overlayOptions } from "./overlayfs/options.ts";
export type { Mount } from "./snapshotter.ts";
