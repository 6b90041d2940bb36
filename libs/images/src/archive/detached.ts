/**
 * A layer written apart from those below it: straight into what shall be the upper directory of an overlay.
 *
 * What lies below is not visible here, so it is hidden by overlayfs' own marks (kernel, Documentation/filesystems/overlayfs.rst,
 * "whiteouts and opaque directories"), and what depends on it is noted for `rebase.ts`, which puts the layer on its chain:
 *  - a directory that the archive never describes was made only because something lies in it: `inventedDirectories`;
 *  - a hard link to a file that this layer lacks is not made: `missingLinks`;
 *  - what cannot be told apart at all is `needsMerged`: extract again over the mounted chain.
 *
 * Invariants:
 *  1. A directory that stands where this layer itself had hidden what is below (by a whiteout, or a file in its place) is opaque.
 *  2. Beneath an opaque directory nothing is hidden or noted once more: nothing of below shows there.
 *  3. Whatever could change the meaning of a noted link after it was met makes the layer `needsMerged`.
 *
 * Paths are byte strings beneath the root (`entry.ts`), with the links that this layer made resolved; `""` is the root.
 */
import { closeSync, constants } from "node:fs";
import {
  hasErrno,
  isWhiteout,
  makeWhiteoutAt,
  mkdirAt,
  openBeneath,
  Resolve,
  setOpaque,
  statAt,
  unlinkAt,
  type OverlayXattrPrefix,
} from "@berth/linux";
import { pathArg, showName, type ArchiveLimits } from "./entry.ts";
import type { Below } from "./below.ts";
import type { DetachedNotes, MissingLink } from "./detached-notes.ts";
import { leadsThroughLink, removeWhiteouts } from "./rebase.ts";
import { Effort } from "./whiteouts.ts";

export class DetachedUpper implements Below {
  readonly #rootFd: number;
  readonly #prefix: OverlayXattrPrefix;
  readonly #invented = new Set<string>();
  /** All directories that no entry describes, those beneath opaque ones too. */
  readonly #implicit = new Set<string>();
  readonly #assumed = new Set<string>();
  readonly #opaque = new Set<string>();
  readonly #whiteouts = new Set<string>();
  readonly #links: MissingLink[] = [];
  /** Paths and targets of noted links, and the directories above the targets. */
  readonly #linkPaths = new Set<string>();
  readonly #linkParents = new Set<string>();
  readonly #effort: Effort;
  #needsMerged: string | undefined;

  constructor(rootFd: number, prefix: OverlayXattrPrefix, limits: ArchiveLimits) {
    this.#effort = new Effort(limits);
    this.#rootFd = rootFd;
    this.#prefix = prefix;
  }

  notes(): DetachedNotes {
    return {
      inventedDirectories: [...this.#invented],
      assumedDirectories: [...this.#assumed],
      whiteoutDirectories: [...this.#whiteouts].filter((path) => path !== ""),
      missingLinks: [...this.#links],
      needsMerged: this.#needsMerged,
    };
  }

  hide(parent: number, directory: string, base: string): void {
    const path = join(directory, base);
    this.#touches(path, "a whiteout", true);
    const name = pathArg(base);
    const own = statAt(parent, name);
    // What the layer brings itself stays (OCI image-spec, layer.md "Whiteouts"); a directory of it must not merge.
    if (own === undefined) {
      this.#whiteout(parent, directory, base);
    } else if (own.type === "directory") {
      this.#sealAt(parent, base, path);
      // It stood only for whiteouts in it: with those gone, nothing of the layer is there.
      if (this.#dropIfEmpty(parent, base, path)) this.#whiteout(parent, directory, base);
    }
  }

  hideAll(directoryFd: number, directory: string): void {
    this.#touches(directory, "an opaque marker", true);
    if (directory === "") this.#demand("the root directory is marked as opaque, which overlayfs does not heed");
    else {
      using fd = opened(directoryFd, ".");
      this.#seal(fd.number, directory);
    }
  }

  wrote(directory: string, base: string, isDirectory: boolean): void {
    const path = join(directory, base);
    if (isDirectory && this.#implicit.delete(path) && this.#invented.delete(path)) this.#assumed.add(path);
    if (this.#links.length > 0) this.#touches(path, "an entry", !isDirectory);
  }

  removed(directory: string, base: string): void {
    const path = join(directory, base);
    const { size } = this.#implicit;
    this.#effort.spend(this.#opaque.size + this.#whiteouts.size + 2 * size + this.#links.length);
    const within = (known: string): boolean => known === path || known.startsWith(`${path}/`);
    for (const paths of [this.#opaque, this.#whiteouts, this.#implicit]) {
      for (const known of paths) if (within(known)) paths.delete(known);
    }
    for (const known of this.#invented) {
      if (!within(known)) continue;
      this.#invented.delete(known);
      this.#assumed.add(known);
    }
    for (const link of this.#links) {
      if (link.path.startsWith(`${path}/`))
        this.#demand(`the directory of the link ${showName(link.path)} is replaced`);
    }
  }

  replacedByDirectory(fd: number, directory: string, base: string): void {
    if (!this.#sealed(directory)) this.#seal(fd, join(directory, base));
  }

  invent(parent: number, directory: string, base: string): boolean {
    const name = pathArg(base);
    const path = join(directory, base);
    const made = mkdirAt(parent, name, 0o755);
    if (!made) {
      const found = statAt(parent, name);
      if (found === undefined || !isWhiteout(found)) return false;
      unlinkAt(parent, name);
      mkdirAt(parent, name, 0o755);
      this.#sealAt(parent, base, path);
    } else if (!this.#sealed(directory)) this.#invented.add(path);
    this.#implicit.add(path);
    this.#touches(path, "a directory", false);
    return true;
  }

  /** A link to what here is a directory only because something lies in it. */
  linkToInvented(directory: string, base: string): boolean {
    const path = join(directory, base);
    if (!this.#invented.has(path)) return false;
    this.#demand(`a hard link to ${showName(path)}, which the layer does not describe`);
    return true;
  }

  /** Is this a link that was noted, whose name a whiteout keeps free? */
  isMissing(directory: string, base: string): boolean {
    return this.#linkPaths.has(join(directory, base));
  }

  /** A link whose target is not in this layer. The name must be free; what it means below is hidden. */
  missingLink(parent: number, directory: string, base: string, target: string): void {
    const path = join(directory, base);
    this.#touches(path, "a link", true);
    if (path === target) this.#demand(`a hard link of ${showName(path)} to itself`);
    if (leadsThroughLink(this.#rootFd, target.slice(0, Math.max(0, target.lastIndexOf("/"))))) {
      this.#demand(`a hard link through another link, to ${showName(target)}`);
    }
    this.#whiteout(parent, directory, base);
    this.#links.push({ path, target });
    this.#linkPaths.add(path).add(target);
    for (let at = target.lastIndexOf("/"); at > 0; at = target.lastIndexOf("/", at - 1)) {
      this.#linkParents.add(target.slice(0, at));
    }
  }

  /** @param hides does it take away what lies beneath the path? */
  #touches(path: string, what: string, hides: boolean): void {
    if (this.#links.length === 0) return;
    if (this.#linkPaths.has(path) || (hides && this.#linkParents.has(path))) {
      this.#demand(`${what} for ${showName(path)} follows a hard link to it, whose target is in a layer below`);
    }
  }

  #demand(reason: string): void {
    this.#needsMerged ??= reason;
  }

  #whiteout(parent: number, directory: string, base: string): void {
    if (this.#sealed(directory)) return;
    makeWhiteoutAt(parent, pathArg(base));
    this.#whiteouts.add(directory);
  }

  #sealAt(parent: number, base: string, path: string): void {
    using fd = opened(parent, base);
    this.#seal(fd.number, path);
  }

  /** Hides all that is below a directory; whiteouts in it would show from now on. */
  #seal(fd: number, path: string): void {
    setOpaque(fd, this.#prefix);
    this.#opaque.add(path);
    this.#effort.spend(20 + this.#whiteouts.size + this.#implicit.size);
    for (const known of this.#whiteouts) {
      if (known !== path && !known.startsWith(`${path}/`)) continue;
      using within = opened(fd, known === path ? "." : known.slice(path.length + 1));
      removeWhiteouts(within.number);
      this.#whiteouts.delete(known);
    }
    for (const known of [...this.#implicit].reverse()) {
      if (!known.startsWith(`${path}/`)) continue;
      const slash = known.lastIndexOf("/");
      using within = opened(fd, slash === path.length ? "." : known.slice(path.length + 1, slash));
      this.#dropIfEmpty(within.number, known.slice(slash + 1), known);
    }
  }

  /** Removes a directory that was invented for what is no longer in it. */
  #dropIfEmpty(parent: number, base: string, path: string): boolean {
    if (!this.#implicit.has(path)) return false;
    try {
      unlinkAt(parent, pathArg(base), { directory: true });
    } catch (error) {
      if (!hasErrno(error, "ENOTEMPTY", "EEXIST")) throw error;
      return false;
    }
    this.#implicit.delete(path);
    this.#opaque.delete(path);
    if (this.#invented.delete(path)) this.#assumed.add(path);
    return true;
  }

  /** Does nothing of below show in this directory? */
  #sealed(directory: string): boolean {
    if (this.#opaque.size === 0) return false;
    for (let path = directory; ; path = path.slice(0, path.lastIndexOf("/"))) {
      if (this.#opaque.has(path)) return true;
      if (!path.includes("/")) return false;
    }
  }
}

function join(directory: string, base: string): string {
  return directory === "" ? base : `${directory}/${base}`;
}

/** A directory of the layer, by a path without links from another. */
function opened(parent: number, path: string): Disposable & { readonly number: number } {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY;
  const number = openBeneath(parent, pathArg(path), flags, 0, Resolve.beneath | Resolve.noSymlinks);
  return { number, [Symbol.dispose]: () => closeSync(number) };
}
