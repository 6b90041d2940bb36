/** A local file or folder as a tar archive, piece by piece. Links are kept; what is named itself is followed. */
import type { Stats } from "node:fs";
import { lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { StatusError } from "@berth/base";
import { archiveEnd, entryHeader, entryPadding, type EntryType, type WrittenEntry } from "@berth/images/tar";

const PIECE_BYTES = 128 * 1024;

/** @throws NOT_FOUND; PERMISSION_DENIED. `onNote` hears of what is left out. */
export async function* packLocal(path: string, onNote: (text: string) => void): AsyncGenerator<Uint8Array> {
  const info = await named(path, () => stat(path));
  yield* packEntry(path, basename(resolve(path)) || "root", info, onNote);
  yield archiveEnd;
}

async function* packEntry(
  path: string,
  name: string,
  info: Stats,
  onNote: (text: string) => void,
): AsyncGenerator<Uint8Array> {
  if (info.isFile()) yield* packFile(path, name);
  else if (info.isDirectory()) {
    yield entryHeader(entryOf(name, "directory", info));
    for (const child of await named(path, () => readdir(path))) {
      const inner = join(path, child);
      yield* packEntry(inner, `${name}/${child}`, await named(inner, () => lstat(inner)), onNote);
    }
  } else if (info.isSymbolicLink()) {
    yield entryHeader({ ...entryOf(name, "symlink", info), linkName: bytes(await readlink(path)) });
  } else onNote(`left out: ${path} is neither a file nor a folder`);
}

/** As large as it is when it is opened: what grows is cut, what shrinks is refused. */
async function* packFile(path: string, name: string): AsyncGenerator<Uint8Array> {
  await using file = await named(path, () => open(path));
  const info = await file.stat();
  yield entryHeader({ ...entryOf(name, "file", info), sizeBytes: info.size });
  for (let done = 0; done < info.size;) {
    const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, info.size - done));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, done);
    if (bytesRead === 0) throw new StatusError("ABORTED", `${path} became shorter while it was copied; copy it again`);
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
  yield entryPadding(info.size);
}

function entryOf(name: string, type: EntryType, { mode, uid, gid, mtimeMs }: Stats): WrittenEntry {
  const seconds = Math.floor(mtimeMs / 1_000);
  const modified = { seconds, nanoseconds: Math.round((mtimeMs - seconds * 1_000) * 1e6) };
  const nothing = { sizeBytes: 0, linkName: "", deviceMajor: 0, deviceMinor: 0 };
  return { name: bytes(name), type, mode: mode & 0o7777, uid, gid, modified, ...nothing };
}

/** A name as a byte string. */
function bytes(text: string): string {
  return Buffer.from(text).toString("latin1");
}

async function named<T>(path: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new StatusError("NOT_FOUND", `${path} is not there`, { cause: error });
    if (code === "EACCES") throw new StatusError("PERMISSION_DENIED", `${path} may not be read`, { cause: error });
    throw new StatusError("FAILED_PRECONDITION", `${path}: ${message}`, { cause: error });
  }
}
