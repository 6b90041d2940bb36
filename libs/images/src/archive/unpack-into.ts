/**
 * An archive of one file or one folder, put into a tree in use as `cp` would: into the folder at `path`, or under the name at
 * the end of `path` in a folder that is there.
 *
 * Invariants: nothing outside of the root is written, whatever links the tree or the archive have (A5, {@link TreeWriter});
 * every entry belongs to the one thing that the first entry names; a folder never takes the place of something else, nor
 * something else that of a folder.
 *
 * Synchronous: use it in a worker.
 */
import { closeSync } from "node:fs";
import { posix } from "node:path";
import { StatusError } from "@berth/base";
import { O_PATH, statFd, tryOpenBeneath } from "@berth/linux";
import { TreeWriter } from "./apply.ts";
import { invalidArchive, showName, type TarEntry } from "./entry.ts";
import { TarReader, type TarSink } from "./reader.ts";

export interface UnpackTotals {
  readonly files: number;
  readonly bytes: number;
}

export class UnpackInto implements Disposable {
  readonly #reader: TarReader;
  readonly #writer: TreeWriter;
  readonly #sink: RenamedSink;

  /**
   * @param rootFd of the tree; stays the caller's. `path` is absolute in it.
   * @throws NOT_FOUND `PATH_MISSING` when neither `path` nor the folder it would lie in is there.
   */
  constructor(rootFd: number, path: string) {
    const place = placeOf(rootFd, path);
    this.#writer = new TreeWriter(rootFd, { mode: "live", devices: "refuse" });
    this.#sink = new RenamedSink(this.#writer, place);
    this.#reader = new TarReader(this.#sink);
  }

  /** Takes the next bytes of the archive. */
  push(chunk: Buffer): void {
    this.#reader.push(chunk);
  }

  /** There is no more. @throws INVALID_ARGUMENT when the archive breaks off or is empty. */
  finish(): UnpackTotals {
    this.#reader.end();
    this.#writer.finish();
    const { files, bytes } = this.#sink;
    if (files === 0) throw invalidArchive("archive has no entries");
    return { files, bytes };
  }

  [Symbol.dispose](): void {
    this.#writer[Symbol.dispose]();
  }
}

/** Names are byte strings relative to the root. */
interface Place {
  readonly directory: string;
  /** Undefined: the archive's own. */
  readonly name: string | undefined;
}

function placeOf(rootFd: number, given: string): Place {
  const path = posix.normalize(given);
  const relative = Buffer.from(path.replace(/^\/+|\/+$/g, "")).toString("latin1");
  const found = typeAt(rootFd, path);
  if (found === "directory") return { directory: relative, name: undefined };
  const missing = (what: string): StatusError =>
    new StatusError("NOT_FOUND", `folder ${what} is not there; make it first`, { reason: "PATH_MISSING" });
  if (path.endsWith("/")) throw missing(path);
  const slash = relative.lastIndexOf("/");
  const parent = posix.dirname(path);
  if (typeAt(rootFd, parent) !== "directory") throw missing(parent);
  return { directory: relative.slice(0, Math.max(0, slash)), name: relative.slice(slash + 1) };
}

function typeAt(rootFd: number, path: string): string | undefined {
  const fd = tryOpenBeneath(rootFd, path.replace(/(.)\/+$/, "$1"), O_PATH);
  if (fd === undefined) return undefined;
  try {
    return statFd(fd).type;
  } finally {
    closeSync(fd);
  }
}

/** Puts the archive's one thing where it shall be, and counts. */
class RenamedSink implements TarSink {
  readonly #inner: TarSink;
  readonly #place: Place;
  #top: string | undefined;
  files = 0;
  bytes = 0;

  constructor(inner: TarSink, place: Place) {
    this.#inner = inner;
    this.#place = place;
  }

  entry(entry: TarEntry): void {
    const name = this.#placed(entry.name);
    const linkName = entry.type === "hardlink" ? this.#placed(entry.linkName) : entry.linkName;
    this.#inner.entry({ ...entry, name, linkName });
    this.files += 1;
  }

  data(chunk: Buffer, offset: number): void {
    this.bytes += chunk.length;
    this.#inner.data(chunk, offset);
  }

  endEntry(): void {
    this.#inner.endEntry();
  }

  #placed(name: string): string {
    const components = name.split("/").filter((component) => component !== "" && component !== ".");
    const [first, ...rest] = components;
    this.#top ??= first;
    if (first === undefined || first !== this.#top) {
      throw invalidArchive(`entry ${showName(name)}: an archive for a copy holds one file or one folder`);
    }
    const { directory, name: newName } = this.#place;
    return [directory, newName ?? first, ...rest].filter((part) => part !== "").join("/");
  }
}
