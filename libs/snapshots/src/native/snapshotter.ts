/**
 * Snapshots as full copies: slow and large, but they work on every file system, and share blocks where it has reflinks.
 *
 * A snapshot's `fs` is the whole tree. An active snapshot is a copy of its parent; a view of a parent needs none.
 */
import { mkdir, chmod } from "node:fs/promises";
import { fromNodeError, idmapProblem } from "@berth/linux";
import {
  openDirectorySnapshotter,
  type DirectoryBackend,
  type SnapshotPaths,
  type SnapshotterDeps,
} from "../directory-snapshotter.ts";
import { idMappingOptions, type Wanted } from "../options.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";
import { idmapSupport } from "../idmap-support.ts";
import { copyTree } from "./copy.ts";

export interface NativeConfig {
  readonly root: string;
}

export function openNative(deps: SnapshotterDeps, config: NativeConfig): Promise<Snapshotter> {
  return openDirectorySnapshotter(deps, config.root, nativeBackend(config.root));
}

function nativeBackend(root: string): DirectoryBackend {
  const idmap = idmapSupport(() => idmapProblem(root));
  return {
    name: "native",
    capabilities: {
      rebase: false,
      quota: false,
      get idmap() {
        return idmap.usable();
      },
      countsInodes: true,
    },
    reasons: {
      // A project would count the copied parents too.
      quota: "full copies are not bounded; overlayfs, btrfs and zfs can be",
      get idmap() {
        return idmap.reason();
      },
    },
    populate,
    mounts: (paths, kind, wanted) => [describe(paths, kind, wanted)],
  };
}

async function populate({ fs, parents }: SnapshotPaths, kind: "active" | "view"): Promise<void> {
  const parent = parents[0];
  if (parent !== undefined && kind === "active") return await copyTree(parent, fs);
  try {
    await mkdir(fs);
    await chmod(fs, 0o755);
  } catch (error) {
    throw fromNodeError(error, "prepare", JSON.stringify(fs));
  }
}

function describe({ fs, parents }: SnapshotPaths, kind: "active" | "view", wanted: Wanted): Mount {
  const source = kind === "view" ? (parents[0] ?? fs) : fs;
  return {
    type: "bind",
    source,
    options: [...idMappingOptions(wanted.labels), kind === "active" ? "rw" : "ro", "rbind"],
  };
}
