/**
 * Snapshots as ZFS data sets: a committed one has a snapshot, of which its children are clones.
 *
 * `root` is where a data set of the snapshotter's own is mounted; below it are a data set and a directory per snapshot
 * (`snapshots/<id>`). OpenZFS in the kernel and zfs-fuse are both supported, by what is mounted there. Bounds are the
 * data set's quota: what is shared with the parent does not count. A commit is on disk when it returns.
 */
import { closeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { StatusError } from "@berth/base";
import { isMountPoint, openDirectory, syncfs } from "@berth/linux";
import {
  openDirectorySnapshotter,
  type DirectoryBackend,
  type SnapshotPaths,
  type SnapshotterDeps,
} from "../directory-snapshotter.ts";
import type { Wanted } from "../options.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";
import { datasetAt, Datasets } from "./datasets.ts";

export interface ZfsConfig {
  /** Where a data set is mounted that nothing else uses (see `probe`). */
  readonly root: string;
}

/** @throws FAILED_PRECONDITION `ZFS_DATASET_MISSING` when no data set is mounted at `root`. */
export async function openZfs(deps: SnapshotterDeps, config: ZfsConfig): Promise<Snapshotter> {
  const found = datasetAt(config.root);
  if (found === undefined) {
    throw new StatusError("FAILED_PRECONDITION", `snapshots "${config.root}": no zfs data set is mounted there`, {
      reason: "ZFS_DATASET_MISSING",
    });
  }
  const backend = zfsBackend(new Datasets(found.dataset, found.kind));
  return await openDirectorySnapshotter(deps, config.root, backend);
}

function zfsBackend(datasets: Datasets): DirectoryBackend {
  return {
    name: "zfs",
    capabilities: { rebase: false, quota: true, idmap: false, countsInodes: false },
    reasons: { idmap: "zfs is not mounted with other owners; use overlayfs, native or btrfs" },
    populate: (paths, kind, wanted) => populate(datasets, paths, kind, wanted),
    mounts: (paths, kind) => describe(datasets, paths, kind),
    seal: (paths) => seal(datasets, paths),
    unseal: ({ id }) => datasets.dropSnapshot(id),
    usage: async ({ id }) => ({ sizeBytes: await datasets.usedBytes(id), inodes: 0 }),
    volumes: { ids: () => datasets.ids(), release: (id) => datasets.destroy(id) },
  };
}

async function populate(
  datasets: Datasets,
  { id, fs, parentIds: [parent] }: SnapshotPaths,
  kind: "active" | "view",
  { maxBytes }: Wanted,
): Promise<void> {
  await mkdir(fs, { mode: 0o755 });
  const options = { mountpoint: fs, maxBytes, readonly: kind === "view" };
  if (parent === undefined) await datasets.create(id, options);
  else await datasets.clone(id, parent, options);
}

async function describe(
  datasets: Datasets,
  { id, fs }: SnapshotPaths,
  kind: "active" | "view",
): Promise<readonly Mount[]> {
  const access = kind === "active" ? "rw" : "ro";
  if (datasets.kind === "kernel") return [{ type: "zfs", source: datasets.name(id), options: [access] }];
  if (!isMountPoint(fs)) await datasets.mount(id);
  return [{ type: "bind", source: fs, options: [access, "rbind"] }];
}

async function seal(datasets: Datasets, { id, fs }: SnapshotPaths): Promise<void> {
  // What programs wrote through mapped memory may still be in the kernel's cache, which the daemon knows nothing of.
  if (datasets.kind === "fuse" && isMountPoint(fs)) {
    const fd = openDirectory(fs);
    try {
      await syncfs(fd);
    } finally {
      closeSync(fd);
    }
  }
  await datasets.snapshot(id);
}
