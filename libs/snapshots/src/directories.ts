/**
 * Where the files of snapshots are: `<root>/snapshots/<id>/fs` (and `work`), and `<root>/trash/` for what is going away.
 *
 * Invariants:
 *  1. A directory is made before its row and goes after it, so a row always has its directory; what has no row, and is not
 *     just being made by this process, is an orphan.
 *  2. Going away is a rename, then deleting in the background, one tree at a time, so that a large one never holds up a
 *     caller or fills the thread pool.
 */
import { mkdir, readdir, rename, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fromNodeError } from "@berth/linux";
import { StatusError, type Logger } from "@berth/base";

const SLASH = Buffer.from("/");

export class SnapshotDirectories {
  readonly #snapshots: string;
  readonly #trash: string;
  readonly #logger: Logger;
  readonly #making = new Set<string>();
  #nextId = 1;
  #deleting: Promise<void> = Promise.resolve();

  private constructor(root: string, logger: Logger) {
    this.#snapshots = join(root, "snapshots");
    this.#trash = join(root, "trash");
    this.#logger = logger;
  }

  /**
   * Makes the layout where it is missing.
   * @throws FAILED_PRECONDITION `SNAPSHOT_ROOT_MISSING` when there are rows but no directory at all: the disk is not
   * mounted, most likely, and taking the snapshots for lost would make them so.
   */
  static async open(root: string, rowCount: number, logger: Logger): Promise<SnapshotDirectories> {
    const directories = new SnapshotDirectories(root, logger);
    try {
      await mkdir(directories.#snapshots, { recursive: true, mode: 0o711 });
      await mkdir(directories.#trash, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw fromNodeError(error, "mkdir", JSON.stringify(root));
    }
    const ids = await directories.ids();
    if (rowCount > 0 && ids.length === 0) {
      throw new StatusError(
        "FAILED_PRECONDITION",
        `snapshots "${root}": ${rowCount} are recorded but the directory is empty; is its file system mounted?`,
        { reason: "SNAPSHOT_ROOT_MISSING" },
      );
    }
    for (const id of ids) directories.#nextId = Math.max(directories.#nextId, Number(id) + 1 || 1);
    return directories;
  }

  /** What is in `snapshots/`. */
  ids(): Promise<string[]> {
    return readdir(this.#snapshots);
  }

  path(id: string): string {
    return join(this.#snapshots, id);
  }

  /** The tree of the snapshot itself. */
  fs(id: string): string {
    return join(this.#snapshots, id, "fs");
  }

  /** Makes a new directory, lets `body` fill it and record it, and takes it away again if that fails. */
  async make<T>(body: (id: string) => Promise<T>): Promise<T> {
    const id = await this.#reserve();
    try {
      return await body(id);
    } catch (error) {
      await this.discard(id);
      throw error;
    } finally {
      this.#making.delete(id);
    }
  }

  async #reserve(): Promise<string> {
    for (;;) {
      const id = String(this.#nextId);
      this.#nextId += 1;
      this.#making.add(id);
      try {
        await mkdir(this.path(id), { mode: 0o711 });
        return id;
      } catch (error) {
        this.#making.delete(id);
        if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
        throw fromNodeError(error, "mkdir", JSON.stringify(this.path(id)));
      }
    }
  }

  /** Puts a directory that no row names any more into the trash; its deletion goes on in the background. */
  async discard(id: string): Promise<void> {
    const target = join(this.#trash, `${id}-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`);
    try {
      await rename(this.path(id), target);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw fromNodeError(error, "rename", JSON.stringify(this.path(id)));
    }
    this.#delete(target);
  }

  #delete(path: string): void {
    this.#deleting = this.#deleting.then(async () => {
      try {
        await deleteTree(Buffer.from(path));
      } catch (error) {
        this.#logger.warn({ path, error }, "removing a snapshot's files failed; the next clean-up tries again");
      }
    });
  }

  /** Deletes what `known` does not name and all of the trash; returns how many, when they are gone. */
  async sweep(known: (id: string) => boolean): Promise<number> {
    await this.#deleting;
    // The listing comes first: whatever is listed and by now neither recorded nor in the making never will be.
    const orphans = (await this.ids()).filter((id) => !this.#making.has(id) && !known(id));
    for (const id of orphans) await this.discard(id);
    await this.#deleting;
    const left = await readdir(this.#trash);
    for (const name of left) this.#delete(join(this.#trash, name));
    await this.#deleting;
    return orphans.length + left.length;
  }

  /** Resolves when nothing is being deleted any more. */
  async settled(): Promise<void> {
    await this.#deleting;
  }
}

/** Removes a tree, one entry after the other; what is gone already is no error. Paths are bytes: names may be any. */
async function deleteTree(path: Buffer): Promise<void> {
  const entries = await absent(readdir(path, { withFileTypes: true, encoding: "buffer" }));
  for (const entry of entries ?? []) {
    const child = Buffer.concat([path, SLASH, entry.name]);
    if (entry.isDirectory()) await deleteTree(child);
    else await absent(unlink(child));
  }
  await absent(rmdir(path));
}

async function absent<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
