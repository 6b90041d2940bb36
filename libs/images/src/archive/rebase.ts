/**
 * Puts a detached layer on its chain: what {@link DetachedNotes} left open is mended.
 *
 *  1. {@link rebaseObstacle}: does it fit? If not, the layer must be extracted again over the mounted chain.
 *  2. {@link mendUpper}, the upper directory not being mounted.
 *  3. Only if there are `missingLinks`: {@link linkMissing} in a mount of the layer over its chain.
 *
 * A layer that was refused while it was written apart (LAYER_INVALID) is to be extracted merged as well, and only that verdict
 * counts: a directory may have been assumed where the chain has a link.
 *
 * Invariants:
 *  - "Below" is found by the very path, no link in it being followed: where the chain has a link and the layer a directory,
 *    nothing of the chain shows in that directory.
 *  - Every path is resolved beneath its root (A5), and by single names from there.
 */
import { closeSync, constants, fchmodSync, fchownSync } from "node:fs";
import {
  getXattr,
  hasErrno,
  isWhiteout,
  linkAt,
  listXattrs,
  O_PATH,
  openBeneath,
  Resolve,
  setTimes,
  setXattr,
  statAt,
  statFd,
  tryOpenBeneath,
  unlinkAt,
} from "@berth/linux";
import type { DetachedNotes, MissingLink } from "./detached-notes.ts";
import { invalidArchive, pathArg, showName } from "./entry.ts";
import { childrenOf } from "./remove-tree.ts";

const { O_DIRECTORY, O_RDONLY } = constants;

/** @param lowerFd the mounted chain below. @returns why the layer must be extracted merged; undefined if it fits */
export function rebaseObstacle(notes: DetachedNotes, lowerFd: number): string | undefined {
  if (notes.needsMerged !== undefined) return notes.needsMerged;
  for (const { path, target } of notes.missingLinks) {
    if (!leadsThroughLink(lowerFd, split(target)[0])) continue;
    return `the hard link ${showName(path)} has a link in the path of its target ${showName(target)}`;
  }
  for (const path of [...notes.inventedDirectories, ...notes.assumedDirectories]) {
    using below = openBelow(lowerFd, path, O_PATH);
    if (below === undefined || statFd(below.fd).type === "directory") continue;
    return `entries lie beneath ${showName(path)}, which is no directory in the layers below`;
  }
  return undefined;
}

/** Gives invented directories what the chain says of them, and removes whiteouts that would show. */
export function mendUpper(notes: DetachedNotes, lowerFd: number, upperFd: number): void {
  for (const path of notes.whiteoutDirectories) {
    using below = openBelow(lowerFd, path, O_PATH | O_DIRECTORY);
    if (below !== undefined) continue;
    using own = openOwn(upperFd, path);
    removeWhiteouts(own.fd);
  }
  for (const path of notes.inventedDirectories) {
    using below = openBelow(lowerFd, path, O_RDONLY | O_DIRECTORY);
    if (below === undefined) continue;
    using own = openOwn(upperFd, path);
    copyAttributes(below.fd, own.fd);
  }
}

/** Makes the hard links to files of layers below. @param mergedFd the layer mounted over its chain. @throws LAYER_INVALID */
export function linkMissing(notes: DetachedNotes, mergedFd: number): void {
  for (const link of notes.missingLinks) {
    const [[fromDirectory, from], [toDirectory, to]] = [split(link.target), split(link.path)];
    using source = openSource(mergedFd, fromDirectory);
    const type = source && statAt(source.fd, pathArg(from))?.type;
    if (source === undefined || type === undefined || type === "directory") throw noTarget(link, type);
    using target = openOwn(mergedFd, toDirectory);
    const { accessed, modified } = statFd(target.fd);
    linkAt(source.fd, pathArg(from), target.fd, pathArg(to));
    setTimes(target.fd, accessed, modified);
  }
}

/** A whiteout in a directory that nothing lies below is not hidden by overlayfs: it shows in listings. */
export function removeWhiteouts(directoryFd: number): void {
  const { accessed, modified } = statFd(directoryFd);
  for (const child of childrenOf(directoryFd)) {
    const found = statAt(directoryFd, pathArg(child));
    if (found !== undefined && isWhiteout(found)) unlinkAt(directoryFd, pathArg(child));
  }
  setTimes(directoryFd, accessed, modified);
}

/** Whoever has such a path cannot tell what later entries do to where it leads. */
export function leadsThroughLink(rootFd: number, directory: string): boolean {
  try {
    open(rootFd, directory, O_PATH | O_DIRECTORY, Resolve.inRoot | Resolve.noSymlinks)?.[Symbol.dispose]();
    return false;
  } catch (error) {
    if (hasErrno(error, "ELOOP")) return true;
    throw error;
  }
}

interface Opened extends Disposable {
  readonly fd: number;
}

/** Links in the path are followed, as `/`-rooted; one that goes round in circles leads nowhere. */
function openSource(rootFd: number, path: string): Opened | undefined {
  try {
    return open(rootFd, path, O_PATH | O_DIRECTORY, Resolve.inRoot);
  } catch (error) {
    if (hasErrno(error, "ELOOP", "ENAMETOOLONG")) return undefined;
    throw error;
  }
}

function openBelow(rootFd: number, path: string, flags: number): Opened | undefined {
  const noFollow = flags & O_PATH ? constants.O_NOFOLLOW : 0;
  try {
    return open(rootFd, path, flags | noFollow, Resolve.inRoot | Resolve.noSymlinks);
  } catch (error) {
    if (hasErrno(error, "ELOOP")) return undefined;
    throw error;
  }
}

/** A directory that the layer is known to have, for reading and changing. */
function openOwn(rootFd: number, path: string): Opened {
  return owned(
    openBeneath(rootFd, pathArg(path || "."), O_RDONLY | O_DIRECTORY, 0, Resolve.inRoot | Resolve.noSymlinks),
  );
}

function open(rootFd: number, path: string, flags: number, resolve: number): Opened | undefined {
  const fd = tryOpenBeneath(rootFd, pathArg(path || "."), flags, 0, resolve);
  return fd === undefined ? undefined : owned(fd);
}

function owned(fd: number): Opened {
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

function copyAttributes(from: number, to: number): void {
  const { uid, gid, mode, accessed, modified } = statFd(from);
  fchownSync(to, uid, gid);
  fchmodSync(to, mode);
  for (const name of listXattrs(from)) {
    if (name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.") || name === "security.selinux")
      continue;
    const value = getXattr(from, name);
    if (value !== undefined) setXattr(to, name, value);
  }
  setTimes(to, accessed, modified);
}

function split(path: string): [directory: string, base: string] {
  const slash = path.lastIndexOf("/");
  return [path.slice(0, Math.max(0, slash)), path.slice(slash + 1)];
}

function noTarget({ path, target }: MissingLink, type: string | undefined): Error {
  const why = type === undefined ? "does not exist in this image" : "is a directory";
  return invalidArchive(`entry ${showName(path)}: its link target ${showName(target)} ${why}`);
}
