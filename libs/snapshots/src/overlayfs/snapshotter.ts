/**
 * Snapshots as overlayfs layers, laid out and mounted as containerd's snapshotter of that name does.
 *
 * A snapshot's `fs` holds only what differs from its parents, deletions as overlayfs writes them. An active snapshot with
 * parents is an overlay; one without, and a view of a single layer, are bind mounts. Since a layer does not depend on what
 * lies below it, it can be extracted before its parents are there (`capabilities.rebase`).
 *
 * Mounts name every lower directory by its full path, also hundreds of them: `mounts.ts` and containerd's mount package
 * both make them fit into the kernel's page of options.
 */
import { chmod, chown, mkdir, rm, stat } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  fromNodeError,
  idmapProblem,
  limitProject,
  mapId,
  projectBytes,
  projectQuotaProblem,
  unlimitProject,
  type IdMapping,
} from "@berth/linux";
import {
  openDirectorySnapshotter,
  type DirectoryBackend,
  type SnapshotPaths,
  type SnapshotterDeps,
} from "../directory-snapshotter.ts";
import { idmapSupport } from "../idmap-support.ts";
import { idMappingOptions, type Wanted } from "../options.ts";
import { overlayOptions } from "./options.ts";
import type { Mount, Snapshotter } from "../snapshotter.ts";

export interface OverlayfsConfig {
  /** A directory without `,`, `:` or `\` in its path (see `probe`). */
  readonly root: string;
}

export async function openOverlayfs(deps: SnapshotterDeps, config: OverlayfsConfig): Promise<Snapshotter> {
  await mkdir(config.root, { recursive: true, mode: 0o711 });
  return await openDirectorySnapshotter(deps, config.root, overlayfsBackend(config.root, overlayOptions()));
}

function overlayfsBackend(root: string, common: readonly string[]): DirectoryBackend {
  const idmap = idmapSupport(() => idmapProblem(root));
  const quotaProblem = projectQuotaProblem(root);
  return {
    name: "overlayfs",
    capabilities: {
      rebase: true,
      quota: quotaProblem === undefined,
      get idmap() {
        return idmap.usable();
      },
      countsInodes: true,
    },
    reasons: {
      quota: quotaProblem,
      get idmap() {
        return idmap.reason();
      },
    },
    populate,
    async mounts(paths, kind, wanted) {
      if (kind === "active" && wanted.volatile) await clearVolatileMark(paths.directory);
      return [describe(paths, kind, wanted, common)];
    },
    // Only what is bounded is a project of its own, which the file system counts.
    ...(quotaProblem === undefined
      ? { volumes: { release: liftBound }, countedBytes: ({ directory }) => projectBytes(directory) }
      : {}),
  };
}

async function populate(paths: SnapshotPaths, kind: "active" | "view", wanted: Wanted): Promise<void> {
  const { directory, fs, parents } = paths;
  try {
    // First of all, so that everything made below belongs to the project.
    if (kind === "active") setBound(paths, wanted);
    await mkdir(fs);
    // The upper directory is the root of the merged tree: it looks as the layer below wants it to.
    const below = parents[0] === undefined ? undefined : shown(await stat(parents[0]), wanted.idMapping);
    if (below !== undefined && (below.uid !== 0 || below.gid !== 0)) await chown(fs, below.uid, below.gid);
    await chmod(fs, below === undefined ? 0o755 : below.mode & 0o7777);
    if (kind === "active") await mkdir(join(directory, "work"), { mode: 0o711 });
  } catch (error) {
    throw fromNodeError(error, "prepare", JSON.stringify(directory));
  }
}

interface Owned {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** What is written through an overlay keeps the owners that are seen there: only the layers below are mapped. */
function shown(info: Owned, mapping: IdMapping | undefined): Owned {
  if (mapping === undefined) return info;
  return { mode: info.mode, uid: mapId(mapping.uid, info.uid), gid: mapId(mapping.gid, info.gid) };
}

/** Project ids of this snapshotter; no other program is expected to use numbers this high. */
const FIRST_PROJECT = 0x4200_0000;

function setBound({ id, directory }: SnapshotPaths, { maxBytes }: Wanted): void {
  if (maxBytes !== undefined) limitProject(directory, FIRST_PROJECT + Number(id), maxBytes);
}

/** The directory may be on its way out, or gone. */
async function liftBound(_id: string, directory: string): Promise<void> {
  if (existsSync(directory)) unlimitProject(directory);
}

/**
 * A volatile overlay leaves a mark with which the kernel refuses to mount it again: its files may be torn. They are whole
 * as long as the host has not crashed, and a snapshot of an earlier boot is dropped at `open`: so here the mark says nothing.
 */
async function clearVolatileMark(directory: string): Promise<void> {
  const mark = join(directory, "work", "work", "incompat", "volatile");
  try {
    await rm(mark, { recursive: true, force: true });
  } catch (error) {
    throw fromNodeError(error, "rm", JSON.stringify(mark));
  }
}

function describe(
  { directory, fs, parents }: SnapshotPaths,
  kind: "active" | "view",
  wanted: Wanted,
  common: readonly string[],
): Mount {
  const idmap = idMappingOptions(wanted.labels);
  const [nearest, ...rest] = parents;
  if (nearest === undefined) return bind(fs, kind === "active", idmap);
  if (kind === "view" && rest.length === 0) return bind(nearest, false, idmap);
  const writable = kind === "active" ? [`workdir=${join(directory, "work")}`, `upperdir=${fs}`] : [];
  const volatile = kind === "active" && wanted.volatile ? ["volatile"] : [];
  return {
    type: "overlay",
    source: "overlay",
    options: [...common, ...volatile, ...idmap, ...writable, `lowerdir=${parents.join(":")}`],
  };
}

function bind(source: string, writable: boolean, idmap: readonly string[]): Mount {
  return { type: "bind", source, options: [...idmap, writable ? "rw" : "ro", "rbind"] };
}
