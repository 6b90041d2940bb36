/** Whiteouts of a layer: entries that say what of the layers below is gone (OCI image-spec, layer.md). */
import { closeSync, constants } from "node:fs";
import { openAt, statAt } from "@berth/linux";
import type { Directories } from "./directories.ts";
import { invalidArchive, pathArg, showName } from "./entry.ts";
import type { EntryPath } from "./names.ts";
import { childrenOf, removeTree } from "./remove-tree.ts";

const PREFIX = ".wh.";
const OPAQUE = ".wh..wh..opq";
/** Other names with this prefix are AUFS's own bookkeeping in old images and say nothing. */
const META_PREFIX = ".wh..wh.";

/** What this layer itself has made, by where it really lies: an opaque directory hides only what comes from below. */
export class Written {
  readonly #paths = new Set<string>();

  /** @param directory as {@link Directories.canonical} gives it */
  add(directory: string, base: string): void {
    this.#paths.add(`${directory}/${base}`);
  }

  has(directory: string, base: string): boolean {
    return this.#paths.has(`${directory}/${base}`);
  }
}

export function isWhiteoutName(base: string): boolean {
  return base.startsWith(PREFIX);
}

/** @param written undefined for a base layer: there is nothing to delete */
export function applyWhiteout(path: EntryPath, directories: Directories, written: Written | undefined): void {
  const { base } = path;
  if (base !== OPAQUE && base.startsWith(META_PREFIX)) return;
  const target = base.slice(PREFIX.length);
  if (target === "" || target === "." || target === "..") {
    throw invalidArchive(`entry ${showName(base)}: a whiteout of ${showName(target)} makes no sense`);
  }
  const parent = written === undefined ? undefined : directories.find(path.directory);
  if (written === undefined || parent === undefined) return;
  if (base === OPAQUE) removeLower(parent, directories.canonical(parent), written);
  else removeTree(parent, target);
  directories.forget();
}

/** Removes what came from below; directories that this layer has filled stay. Returns whether anything stayed. */
function removeLower(dirFd: number, path: string, written: Written): boolean {
  let kept = false;
  for (const child of childrenOf(dirFd)) {
    const own = written.has(path, child);
    if (statAt(dirFd, pathArg(child))?.type !== "directory") {
      if (own) kept = true;
      else removeTree(dirFd, child);
      continue;
    }
    const fd = openAt(dirFd, pathArg(child), constants.O_RDONLY | constants.O_DIRECTORY);
    let filled: boolean;
    try {
      filled = removeLower(fd, path === "" ? child : `${path}/${child}`, written);
    } finally {
      closeSync(fd);
    }
    if (own || filled) kept = true;
    else removeTree(dirFd, child);
  }
  return kept;
}
