/**
 * A layer written apart from those below it: straight into what shall be the upper directory of an overlay.
 *
 * What lies below is not visible here, so it is hidden by overlayfs' own marks (kernel, Documentation/filesystems/overlayfs.rst,
 * "whiteouts and opaque directories"), and what depends on it is noted for whoever puts the layer on its chain:
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
import { isWhiteout, makeWhiteoutAt, mkdirAt, openAt, setOpaque, statAt, unlinkAt } from "@berth/linux";
import type { OverlayXattrPrefix } from "@berth/linux";
import { pathArg, showName } from "./entry.ts";
import type { Below } from "./whiteouts.ts";

export interface DetachedNotes {
  /**
   * Directories that no entry of the layer describes, parents first. They are root's, 0755, with the time of extraction: take
   * owner, mode, times and attributes from the chain below where it has a directory there. Where it has anything else (as a
   * link `/lib → usr/lib`), the layer must be extracted over the mounted chain. Where it has nothing, leave them.
   */
  readonly inventedDirectories: readonly string[];
  /** To be linked in this order in the mounted view of the layer over its chain; no such target there: LAYER_INVALID. */
  readonly missingLinks: readonly MissingLink[];
  /** Why the layer is not right as it is and must be extracted over the mounted chain; undefined if it is. */
  readonly needsMerged: string | undefined;
}

export interface MissingLink {
  /** Where the link goes: its directory is there, its own name free in the mounted view. */
  readonly path: string;
  /** As the archive names it, cleaned; links in it are to be resolved with the root as `/`. */
  readonly target: string;
}

export class DetachedUpper implements Below {
  readonly #prefix: OverlayXattrPrefix;
  readonly #invented = new Set<string>();
  readonly #opaque = new Set<string>();
  readonly #links: MissingLink[] = [];
  /** Paths and targets of noted links, and the directories above the targets. */
  readonly #linkPaths = new Set<string>();
  readonly #linkParents = new Set<string>();
  #needsMerged: string | undefined;

  constructor(prefix: OverlayXattrPrefix) {
    this.#prefix = prefix;
  }

  notes(): DetachedNotes {
    return {
      inventedDirectories: [...this.#invented],
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
      if (!this.#sealed(directory)) makeWhiteoutAt(parent, name);
    } else if (own.type === "directory") {
      using fd = opened(parent, base);
      this.#seal(fd.number, path);
    }
  }

  hideAll(directoryFd: number, directory: string): void {
    this.#touches(directory, "an opaque marker", true);
    if (directory === "") this.#demand("the root directory is marked as opaque, which overlayfs does not heed");
    else this.#seal(directoryFd, directory);
  }

  wrote(directory: string, base: string, isDirectory: boolean): void {
    const path = join(directory, base);
    if (isDirectory) this.#invented.delete(path);
    if (this.#links.length > 0) this.#touches(path, "an entry", !isDirectory);
  }

  removed(directory: string, base: string): void {
    const path = join(directory, base);
    for (const paths of [this.#invented, this.#opaque]) {
      for (const known of paths) if (known === path || known.startsWith(`${path}/`)) paths.delete(known);
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
      using fd = opened(parent, base);
      this.#seal(fd.number, path);
    } else if (!this.#sealed(directory)) this.#invented.add(path);
    this.#touches(path, "a directory", false);
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
    if (!this.#sealed(directory)) makeWhiteoutAt(parent, pathArg(base));
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

  #seal(fd: number, path: string): void {
    setOpaque(fd, this.#prefix);
    this.#opaque.add(path);
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

function opened(parent: number, base: string): Disposable & { readonly number: number } {
  const number = openAt(parent, pathArg(base), constants.O_RDONLY | constants.O_DIRECTORY);
  return { number, [Symbol.dispose]: () => closeSync(number) };
}
