/**
 * Snapshots as overlayfs layers, laid out and mounted as containerd's snapshotter of that name does.
 *
 * A snapshot's `fs` holds only what differs from its parents, deletions as overlayfs writes them. An active snapshot with
 * parents is an overlay; one without, and a view of a single layer, are bind mounts. Since a layer does not depend on what
 * lies below it, it can be extracted before its parents are there (`capabilities.rebase`).
 */
import { chmod, chown, mkdir, stat } from "node:fs/promises";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromNodeError } from "@berth/linux";
import {
  openDirectorySnapshotter,
  type DirectoryBackend,
  type SnapshotPaths,
  type SnapshotterDeps,
} from "../directory-snapshotter.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";

export interface OverlayfsConfig {
  /** A directory without `,`, `:` or `\` in its path (see `probe`). */
  readonly root: string;
}

export function openOverlayfs(deps: SnapshotterDeps, config: OverlayfsConfig): Promise<Snapshotter> {
  return openDirectorySnapshotter(deps, config.root, overlayfsBackend(overlayOptions()));
}

/**
 * What every overlay is mounted with. `index=off`: with an index, a layer could not be the upper directory of one mount
 * and, once committed, the lower one of another. `userxattr`: in a user namespace, `trusted.*` cannot be written.
 */
export function overlayOptions(): readonly string[] {
  return [
    ...(existsSync("/sys/module/overlay/parameters/index") ? ["index=off"] : []),
    ...(inUserNamespace() ? ["userxattr"] : []),
  ];
}

function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch {
    return false;
  }
}

function overlayfsBackend(common: readonly string[]): DirectoryBackend {
  return {
    name: "overlayfs",
    capabilities: { rebase: true },
    populate,
    mounts: (paths, kind) => [describe(paths, kind, common)],
  };
}

async function populate({ directory, fs, parents }: SnapshotPaths, kind: "active" | "view"): Promise<void> {
  try {
    await mkdir(fs);
    // The upper directory is the root of the merged tree: it looks as the layer below wants it to.
    const below = parents[0] === undefined ? undefined : await stat(parents[0]);
    if (below !== undefined && (below.uid !== 0 || below.gid !== 0)) await chown(fs, below.uid, below.gid);
    await chmod(fs, below === undefined ? 0o755 : below.mode & 0o7777);
    if (kind === "active") await mkdir(join(directory, "work"), { mode: 0o711 });
  } catch (error) {
    throw fromNodeError(error, "prepare", JSON.stringify(directory));
  }
}

function describe(
  { directory, fs, parents }: SnapshotPaths,
  kind: "active" | "view",
  common: readonly string[],
): Mount {
  const [nearest, ...rest] = parents;
  if (nearest === undefined) return bind(fs, kind === "active");
  if (kind === "view" && rest.length === 0) return bind(nearest, false);
  const writable = kind === "active" ? [`workdir=${join(directory, "work")}`, `upperdir=${fs}`] : [];
  return {
    type: "overlay",
    source: "overlay",
    options: [...common, ...writable, `lowerdir=${parents.join(":")}`],
  };
}

function bind(source: string, writable: boolean): Mount {
  return { type: "bind", source, options: [writable ? "rw" : "ro", "rbind"] };
}
