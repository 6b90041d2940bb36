/**
 * The directories of a tree that is being written, by path and held open.
 *
 * Every path is resolved by openat2 with the root as `/` (A5): whatever links the archive or the layers below made, what
 * comes out lies beneath the root. A descriptor is kept while entries of the same directory follow, which makes a file cost
 * one lookup of a single name. Whoever removes or replaces a directory or a link must call {@link forget}: a kept
 * descriptor would go on meaning what was there before.
 */
import { closeSync, constants, readlinkSync } from "node:fs";
import { chmodAt, hasErrno, mkdirAt, O_PATH, openBeneath, readlinkAt, statAt, tryOpenBeneath } from "@berth/linux";
import { invalidArchive, pathArg, showName } from "./entry.ts";
import { NewFiles } from "./new-files.ts";
import type { Below } from "./below.ts";

const KEPT = 64;
const MAX_LINKS = 40;
const DIRECTORY = O_PATH | constants.O_DIRECTORY;

export class Directories implements Disposable {
  readonly #rootFd: number;
  readonly #rootPath: string;
  readonly #below: Below | undefined;
  /** In the order of last use. */
  readonly #kept = new Map<string, number>();
  /** Where kept descriptors lie. */
  readonly #canonical = new Map<number, string>();
  readonly #newFiles = new Map<number, NewFiles>();

  /** `rootFd` stays the caller's. */
  constructor(rootFd: number, below?: Below) {
    this.#rootFd = rootFd;
    this.#below = below;
    this.#rootPath = pathOf(rootFd);
  }

  /** A directory that must exist; undefined when it does not. The descriptor stays owned by this. */
  find(path: string): number | undefined {
    if (path === "") return this.#rootFd;
    const kept = this.#kept.get(path);
    if (kept !== undefined) {
      this.#kept.delete(path);
      this.#kept.set(path, kept);
      return kept;
    }
    const fd = tryOpenBeneath(this.#rootFd, pathArg(path), DIRECTORY);
    if (fd === undefined) return undefined;
    this.keep(path, fd);
    this.#below?.entered?.(fd, this.canonical(fd));
    return fd;
  }

  /** The same; undefined as well where links lead round in circles. */
  findIfAny(path: string): number | undefined {
    try {
      return this.find(path);
    } catch (error) {
      if (hasErrno(error, "ELOOP")) return undefined;
      throw error;
    }
  }

  /** What is known of new files in a kept directory. */
  newFiles(fd: number): NewFiles {
    let known = this.#newFiles.get(fd);
    if (known === undefined) this.#newFiles.set(fd, (known = new NewFiles()));
    return known;
  }

  /** Owner, mode or attributes of a directory have changed. */
  forgetNewFiles(): void {
    this.#newFiles.clear();
  }

  /** A directory, made with its parents (root's, 0755) where an archive left them out. */
  ensure(path: string, links = 0): number {
    const found = this.find(path);
    if (found !== undefined) return found;
    const slash = path.lastIndexOf("/");
    const [directory, base] = slash < 0 ? ["", path] : [path.slice(0, slash), path.slice(slash + 1)];
    const parent = this.ensure(directory, links);
    if (this.#make(parent, base)) {
      chmodAt(parent, pathArg(base), 0o755);
      return this.keep(path, openBeneath(this.#rootFd, pathArg(path), DIRECTORY));
    }
    return this.#throughDangling(parent, path, base, links);
  }

  /** Hands a descriptor over, to be found by this path. */
  keep(path: string, fd: number): number {
    const before = this.#kept.get(path);
    if (before !== undefined) this.#close(before);
    this.#kept.delete(path);
    this.#kept.set(path, fd);
    if (this.#kept.size > KEPT) {
      const [oldest, oldestFd] = this.#kept.entries().next().value!;
      this.#kept.delete(oldest);
      this.#close(oldestFd);
    }
    return fd;
  }

  /** Where a kept directory really lies, links resolved: a byte string beneath the root, `""` for the root. */
  canonical(fd: number): string {
    if (fd === this.#rootFd) return "";
    const known = this.#canonical.get(fd);
    if (known !== undefined) return known;
    const path = pathOf(fd);
    const root = this.#rootPath === "/" ? "" : this.#rootPath;
    // A link may well lead to the root itself.
    if (path !== this.#rootPath && !path.startsWith(`${root}/`))
      throw new Error("a kept directory is not beneath the root");
    const canonical = path.slice(root.length + 1);
    this.#canonical.set(fd, canonical);
    return canonical;
  }

  /** Drops all that is kept. */
  forget(): void {
    for (const fd of this.#kept.values()) this.#close(fd);
    this.#kept.clear();
  }

  [Symbol.dispose](): void {
    this.forget();
  }

  #make(parent: number, base: string): boolean {
    return this.#below?.invent?.(parent, this.canonical(parent), base) ?? mkdirAt(parent, pathArg(base), 0o755);
  }

  /**
   * A link to a directory that is not there yet, such as `/var/run → /run` in a layer without `/run`: that is made. The
   * target is walked as the kernel would: a `..` leaves the directory that really was reached.
   */
  #throughDangling(parent: number, path: string, base: string, links: number): number {
    if (statAt(parent, pathArg(base))?.type !== "symlink" || links >= MAX_LINKS) {
      throw invalidArchive(`entry beneath ${showName(path)}: that is not a directory`);
    }
    const target = readlinkAt(parent, pathArg(base)).toString("latin1");
    let reached = target.startsWith("/") ? "" : this.canonical(parent);
    for (const component of target.split("/")) {
      if (component === "" || component === ".") continue;
      if (component === "..") reached = reached.slice(0, Math.max(0, reached.lastIndexOf("/")));
      else reached = this.canonical(this.ensure(reached === "" ? component : `${reached}/${component}`, links + 1));
    }
    return this.#reopen(path);
  }

  #close(fd: number): void {
    this.#canonical.delete(fd);
    this.#newFiles.delete(fd);
    closeSync(fd);
  }

  #reopen(path: string): number {
    try {
      return this.keep(path, openBeneath(this.#rootFd, pathArg(path), DIRECTORY));
    } catch (error) {
      if (!hasErrno(error, "ENOENT", "ENOTDIR", "ELOOP")) throw error;
      throw invalidArchive(`entry beneath ${showName(path)}: that is not a directory`);
    }
  }
}

function pathOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`, "latin1");
}
