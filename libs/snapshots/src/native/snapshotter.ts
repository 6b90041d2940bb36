/**
 * Snapshots as full copies: slow and large, but they work on every file system, and share blocks where it has reflinks.
 *
 * A snapshot's `fs` is the whole tree. An active snapshot is a copy of its parent; a view of a parent needs none.
 */
import { mkdir, chmod } from "node:fs/promises";
import { fromNodeError } from "@berth/linux";
import {
  openDirectorySnapshotter,
  type DirectoryBackend,
  type SnapshotPaths,
  type SnapshotterDeps,
} from "../directory-snapshotter.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";
import { copyTree } from "./copy.ts";

export interface NativeConfig {
  readonly root: string;
}

export function openNative(deps: SnapshotterDeps, config: NativeConfig): Promise<Snapshotter> {
  return openDirectorySnapshotter(deps, config.root, nativeBackend);
}

const nativeBackend: DirectoryBackend = {
  name: "native",
  capabilities: { rebase: false },
  populate,
  mounts: (paths, kind) => [describe(paths, kind)],
};

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

function describe({ fs, parents }: SnapshotPaths, kind: "active" | "view"): Mount {
  const source = kind === "view" ? (parents[0] ?? fs) : fs;
  return { type: "bind", source, options: [kind === "active" ? "rw" : "ro", "rbind"] };
}
