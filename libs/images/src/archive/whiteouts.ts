/**
 * Whiteouts of a layer: entries that say what of the layers below is gone (OCI image-spec, layer.md "Whiteouts").
 *
 * A whiteout never hides what its own layer brings, in whatever order the two come. The directory that a whiteout lies in is
 * made where it is missing, as for any entry: so does containerd.
 */
import { closeSync, constants } from "node:fs";
import { openAt, statAt, statFd } from "@berth/linux";
import type { Below, DirectoryTimes } from "./below.ts";
import type { Directories } from "./directories.ts";
import { archiveTooLarge, invalidArchive, pathArg, showName, type ArchiveLimits } from "./entry.ts";
import type { EntryPath } from "./names.ts";
import { childrenOf, removeTree } from "./remove-tree.ts";

const PREFIX = ".wh.";
/** What looking at a file costs, in comparisons of names. */
const VISIT_STEPS = 100;
const OPAQUE = ".wh..wh..opq";
/** Other names with this prefix are AUFS's own bookkeeping in old images and say nothing. */
const META_PREFIX = ".wh..wh.";

/**
 * Bounds work that an archive can ask for many times over, such as an opaque marker in a directory that stays full: real layers
 * stay far below, one that is made to keep a processor busy is LAYER_TOO_LARGE.
 */
export class Effort {
  #left: number;

  constructor({ maxHidingSteps }: ArchiveLimits) {
    this.#left = maxHidingSteps;
  }

  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0) throw archiveTooLarge("archive hides and replaces directories too often");
  }
}

export function isWhiteoutName(base: string): boolean {
  return base.startsWith(PREFIX);
}

/** Is this path AUFS's bookkeeping, or beneath such? */
export function isMetaPath({ directory, base }: EntryPath): boolean {
  return directory === "" ? base.startsWith(META_PREFIX) && base !== OPAQUE : directory.startsWith(META_PREFIX);
}

/** @param below undefined for a base layer: there is nothing to hide */
export function applyWhiteout(path: EntryPath, directories: Directories, below: Below | undefined): void {
  const { base } = path;
  if (base !== OPAQUE && base.startsWith(META_PREFIX)) return;
  const target = base.slice(PREFIX.length);
  if (target === "" || target === "." || target === "..") {
    throw invalidArchive(`entry ${showName(base)}: a whiteout of ${showName(target)} makes no sense`);
  }
  const parent = directories.ensure(path.directory);
  if (below === undefined) return;
  if (base === OPAQUE) below.hideAll(parent, directories.canonical(parent));
  else below.hide(parent, directories.canonical(parent), target);
  directories.forget();
}

/** The mounted chain: what is hidden is deleted, and the kernel makes of it what the upper directory needs. */
export class MergedView implements Below {
  /** What this layer itself has made, by where it really lies. */
  readonly #own = new Set<string>();
  /** A directory below is not changed by what a layer puts into it, unless the layer says so. */
  readonly #times = new Map<string, DirectoryTimes>();
  readonly #effort: Effort;

  constructor(limits: ArchiveLimits) {
    this.#effort = new Effort(limits);
  }

  entered(fd: number, directory: string): void {
    if (directory === "" || this.#times.has(directory)) return;
    const { accessed, modified } = statFd(fd);
    this.#times.set(directory, { accessed, modified });
  }

  *passed(): Iterable<{ readonly path: EntryPath; readonly times: DirectoryTimes }> {
    for (const [name, times] of this.#times) {
      const slash = name.lastIndexOf("/");
      yield { path: { directory: name.slice(0, Math.max(0, slash)), base: name.slice(slash + 1) }, times };
    }
  }

  hide(parent: number, directory: string, base: string): void {
    this.#removeLower(parent, directory, base);
  }

  hideAll(directoryFd: number, directory: string): void {
    for (const child of childrenOf(directoryFd)) this.#removeLower(directoryFd, directory, child);
  }

  wrote(directory: string, base: string): void {
    this.#own.add(`${directory}/${base}`);
  }

  removed(directory: string, base: string): void {
    this.#effort.spend(this.#times.size);
    const path = directory === "" ? base : `${directory}/${base}`;
    for (const known of this.#times.keys()) {
      if (known === path || known.startsWith(`${path}/`)) this.#times.delete(known);
    }
  }

  replacedByDirectory(): void {}

  /** Removes what came from below; directories that this layer has filled stay. Returns whether anything stayed. */
  #removeLower(parent: number, directory: string, base: string): boolean {
    const own = this.#own.has(`${directory}/${base}`);
    const type = statAt(parent, pathArg(base))?.type;
    // What is removed cannot be asked for again; what stays can.
    if (own) this.#effort.spend(VISIT_STEPS);
    if (type === undefined || (own && type !== "directory")) return own;
    if (type === "directory") {
      const fd = openAt(parent, pathArg(base), constants.O_RDONLY | constants.O_DIRECTORY);
      let filled = own;
      try {
        const path = directory === "" ? base : `${directory}/${base}`;
        for (const child of childrenOf(fd)) if (this.#removeLower(fd, path, child)) filled = true;
      } finally {
        closeSync(fd);
      }
      if (filled) return true;
    }
    removeTree(parent, base);
    return false;
  }
}
