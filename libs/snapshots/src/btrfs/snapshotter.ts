/**
 * Snapshots as btrfs subvolumes: each holds the whole tree and shares blocks with its parent.
 *
 * `snapshots/<id>/fs` is the subvolume; a view has none, since its parent is mounted as it is. A committed one is read-only
 * by its own flag, so that no mount anywhere can change it. Bounds are limits of its quota group (what it has beside what
 * it shares), where an administrator has switched on quotas for the file system.
 */
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  btrfsQuotaEnabled,
  createSubvolume,
  destroySubvolume,
  fromNodeError,
  hasErrno,
  idmapProblem,
  isSubvolume,
  isSubvolumeReadonly,
  limitSubvolume,
  setSubvolumeReadonly,
  snapshotSubvolume,
  subvolumeOwnBytes,
} from "@berth/linux";
import {
  openDirectorySnapshotter,
  type DirectoryBackend,
  type SnapshotPaths,
  type SnapshotterDeps,
} from "../directory-snapshotter.ts";
import { idmapSupport } from "../idmap-support.ts";
import { idMappingOptions, type Wanted } from "../options.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";
import { diskUsage } from "../usage.ts";

export interface BtrfsConfig {
  /** A directory on btrfs (see `probe`). */
  readonly root: string;
}

export async function openBtrfs(deps: SnapshotterDeps, config: BtrfsConfig): Promise<Snapshotter> {
  await mkdir(config.root, { recursive: true, mode: 0o711 });
  return await openDirectorySnapshotter(deps, config.root, btrfsBackend(config.root));
}

function btrfsBackend(root: string): DirectoryBackend {
  const idmap = idmapSupport(() => idmapProblem(root));
  return {
    name: "btrfs",
    capabilities: {
      rebase: false,
      // Asked anew each time: an administrator may switch them on and off while we run.
      get quota() {
        return btrfsQuotaEnabled(root);
      },
      get idmap() {
        return idmap.usable();
      },
      countsInodes: true,
    },
    reasons: {
      quota: `quotas are off; switch them on with "btrfs quota enable ${root}"`,
      get idmap() {
        return idmap.reason();
      },
    },
    populate,
    mounts: (paths, kind, wanted) => [describe(paths, kind, wanted)],
    seal,
    unseal,
    resume: unseal,
    usage: ({ fs, parents: [parent] }) => diskUsage(fs, parent),
    countedBytes: ({ fs }) => subvolumeOwnBytes(fs),
    volumes: { release: (_, directory) => release(join(directory, "fs")) },
  };
}

async function populate(
  { fs, parents: [parent] }: SnapshotPaths,
  kind: "active" | "view",
  { maxBytes }: Wanted,
): Promise<void> {
  try {
    if (parent !== undefined && kind === "view") return await mkdir(fs);
    if (parent === undefined) {
      createSubvolume(fs);
      await chmod(fs, 0o755);
    } else snapshotSubvolume(parent, fs);
    // Always said: a snapshot is born with the limit of what it was made from.
    if (maxBytes !== undefined || btrfsQuotaEnabled(fs)) limitSubvolume(fs, maxBytes);
  } catch (error) {
    throw fromNodeError(error, "prepare", JSON.stringify(fs));
  }
}

function describe({ fs, parents }: SnapshotPaths, kind: "active" | "view", wanted: Wanted): Mount {
  const source = kind === "view" ? (parents[0] ?? fs) : fs;
  const access = kind === "active" ? "rw" : "ro";
  return { type: "bind", source, options: [...idMappingOptions(wanted.labels), access, "rbind"] };
}

async function seal({ fs }: SnapshotPaths): Promise<void> {
  setSubvolumeReadonly(fs, true);
}

async function unseal({ fs }: SnapshotPaths): Promise<void> {
  if (isSubvolumeReadonly(fs)) setSubvolumeReadonly(fs, false);
}

/** What is left of it, if anything, is deleted file by file. */
async function release(fs: string): Promise<void> {
  if (!isSubvolume(fs)) return;
  try {
    destroySubvolume(fs);
  } catch (error) {
    // A container made subvolumes of its own inside: they go with their files, as rmdir takes empty ones.
    if (!hasErrno(error, "ENOTEMPTY")) throw error;
    setSubvolumeReadonly(fs, false);
  }
}
