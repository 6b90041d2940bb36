/**
 * An archive of one file or one folder of a task, put onto the local disk as `cp` would, or printed.
 *
 * A task is not to be trusted: every entry goes into a folder that this very archive has made or merged with, looked at to be a
 * folder and no link; links are made but never gone through; names that lead elsewhere are refused. Owners are kept for root
 * only, setuid bits too; devices are left out.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { StatusError } from "@berth/base";
import { TarReader, type TarEntry, type TarSink } from "@berth/images/tar";
import { UsageError } from "../exit-code.ts";

export interface LocalTotals {
  files: number;
  bytes: number;
}

export interface UnpackOptions {
  /** In place of the disk: a file's content, or a folder as the archive it is. */
  readonly print: { write(data: Uint8Array): Promise<void>; readonly isTerminal: boolean } | undefined;
  readonly onNote: (text: string) => void;
}

export async function unpackLocal(
  archive: AsyncIterable<Buffer>,
  target: string,
  { print, onNote }: UnpackOptions,
): Promise<LocalTotals> {
  if (print !== undefined) return await printArchive(archive, print);
  using writer = new LocalWriter(target, onNote);
  const reader = new TarReader(writer);
  for await (const piece of archive) reader.push(piece);
  reader.end();
  return writer.finish();
}

/** A folder's archive goes out as it comes; of a file only the content. */
async function printArchive(
  archive: AsyncIterable<Buffer>,
  print: NonNullable<UnpackOptions["print"]>,
): Promise<LocalTotals> {
  let pending: Buffer[] = [];
  let folder: boolean | undefined;
  const totals: LocalTotals = { files: 0, bytes: 0 };
  const reader = new TarReader({
    entry({ type }) {
      folder ??= type === "directory";
      totals.files += 1;
    },
    data(chunk) {
      totals.bytes += chunk.length;
      if (folder === false) pending.push(Buffer.from(chunk));
    },
    endEntry() {},
  });
  for await (const piece of archive) {
    reader.push(piece);
    if (folder === true && print.isTerminal) {
      throw new UsageError("a folder comes as an archive, which is nothing for a terminal: pipe it into tar");
    }
    for (const chunk of folder === true ? [piece] : pending) await print.write(chunk);
    pending = [];
  }
  reader.end();
  return totals;
}

const IS_ROOT = process.getuid?.() === 0;
/** What a stranger's file may not do here. */
const MODE_MASK = IS_ROOT ? 0o7777 : 0o1777;
const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;

class LocalWriter implements TarSink, Disposable {
  readonly #onNote: (text: string) => void;
  readonly #parent: string;
  /** Undefined: the archive's own. */
  readonly #name: string | undefined;
  readonly #totals: LocalTotals = { files: 0, bytes: 0 };
  /** Folders and files that this archive has made, by their names in it. */
  readonly #folders = new Map<string, TarEntry>();
  readonly #files = new Set<string>();
  #top: string | undefined;
  #file: { readonly fd: number; readonly path: string; readonly entry: TarEntry } | undefined;

  constructor(target: string, onNote: (text: string) => void) {
    this.#onNote = onNote;
    const folder = isFolder(target);
    this.#parent = folder ? target : dirname(resolve(target));
    this.#name = folder ? undefined : basename(resolve(target));
    const missing = !folder && (target.endsWith("/") || !isFolder(this.#parent));
    if (missing) {
      const what = target.endsWith("/") ? target : this.#parent;
      throw new StatusError("NOT_FOUND", `folder ${what} is not there; make it first`);
    }
  }

  entry(entry: TarEntry): void {
    const { path, key } = this.#place(entry.name);
    this.#totals.files += 1;
    switch (entry.type) {
      case "file":
        this.#makeFile(path, entry);
        this.#files.add(key);
        break;
      case "directory":
        makeFolder(path);
        this.#folders.set(key, entry);
        break;
      case "symlink":
        clear(path);
        symlinkSync(text(entry.linkName), path);
        if (IS_ROOT) lchownSync(path, entry.uid, entry.gid);
        lutimesSync(path, seconds(entry), seconds(entry));
        break;
      case "hardlink":
        this.#makeLink(path, entry);
        break;
      case "character":
      case "block":
      case "fifo":
        this.#totals.files -= 1;
        this.#onNote(`left out: ${text(entry.name)} is a ${entry.type === "fifo" ? "fifo" : "device"}`);
        break;
    }
  }

  data(chunk: Buffer, offset: number): void {
    const { fd } = this.#file!;
    for (let done = 0; done < chunk.length;) done += writeSync(fd, chunk, done, chunk.length - done, offset + done);
    this.#totals.bytes += chunk.length;
  }

  endEntry(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const { fd, entry } = file;
    try {
      if (IS_ROOT) fchownSync(fd, entry.uid, entry.gid);
      fchmodSync(fd, entry.mode & MODE_MASK);
      futimesSync(fd, seconds(entry), seconds(entry));
    } finally {
      closeSync(fd);
    }
  }

  /** Modes and times of folders come last: one may be read-only. */
  finish(): LocalTotals {
    for (const [key, entry] of [...this.#folders].reverse()) {
      const path = this.#pathOf(key);
      if (IS_ROOT) chownSync(path, entry.uid, entry.gid);
      chmodSync(path, entry.mode & MODE_MASK);
      utimesSync(path, seconds(entry), seconds(entry));
    }
    return this.#totals;
  }

  /** A file that was not finished is no file. */
  [Symbol.dispose](): void {
    if (this.#file === undefined) return;
    closeSync(this.#file.fd);
    rmSync(this.#file.path, { force: true });
    this.#file = undefined;
  }

  #place(name: string): { readonly path: string; readonly key: string } {
    const components = text(name)
      .split("/")
      .filter((component) => component !== "");
    const [first] = components;
    this.#top ??= first;
    const strange =
      first === undefined || first !== this.#top || components.some((part) => part === ".." || part === ".");
    const key = components.join("/");
    const parent = components.slice(0, -1).join("/");
    if (strange || (parent !== "" && !this.#folders.has(parent))) {
      throw new StatusError("DATA_LOSS", `the node sent an archive with a strange name: ${JSON.stringify(key)}`);
    }
    return { key, path: this.#pathOf(key) };
  }

  #pathOf(key: string): string {
    const [first = "", ...rest] = key.split("/");
    return join(this.#parent, this.#name ?? first, ...rest);
  }

  #makeFile(path: string, entry: TarEntry): void {
    clear(path);
    this.#file = { fd: openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600), path, entry };
  }

  #makeLink(path: string, entry: TarEntry): void {
    const key = text(entry.linkName).split("/").filter(Boolean).join("/");
    if (!this.#files.has(key)) {
      throw new StatusError("DATA_LOSS", `the node sent a link to ${JSON.stringify(key)}, which is not in the archive`);
    }
    clear(path);
    linkSync(this.#pathOf(key), path);
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function makeFolder(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) mkdirSync(path, { mode: 0o700 });
  else if (!there.isDirectory()) throw occupied(path, "no folder");
}

/** Makes room for something that is no folder. */
function clear(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there?.isDirectory() === true) throw occupied(path, "a folder");
  if (there !== undefined) rmSync(path);
}

function occupied(path: string, by: string): StatusError {
  return new StatusError("ALREADY_EXISTS", `${path} is ${by}, which is not replaced; remove it first`);
}

function text(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}

function seconds({ modified }: TarEntry): number {
  return modified.seconds + modified.nanoseconds / 1e9;
}
