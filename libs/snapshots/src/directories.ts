/**
 * Where the files of snapshots are: `<root>/snapshots/<id>/fs` (and `work`), and `<root>/trash/` for what is going away.
 *
 * Invariants:
 *  1. A directory is made before its row and goes after it, so a row always has its directory; what has no row, and is not
 *     just being made by this process, is an orphan.
 *     The same holds for what a snapshot has beside its directory ({@link Volumes}).
 *  2. An id is used once and never again, so that a row of an older copy of the metadata can only name its own snapshot's
 *     files, or none: the counter is on the disk of the directories ({@link SnapshotIds}), not in the metadata.
 *  3. Going away is a rename, then deleting in the background, one tree at a time, so that a large one never holds up a
 *     caller or fills the thread pool.
 */
import { mkdir, readdir, rename, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fromNodeError } from "@berth/linux";
import { StatusError, type Logger } from "@berth/base";
import { SnapshotIds } from "./ids.ts";

const SLASH = Buffer.from("/");

/** Storage of a snapshot that is not in its directory, or not to be deleted file by file. */
export interface Volumes {
  /** Frees it, in the background; `directory` is where the snapshot's directory is now. Gone already is no error. */
  release(id: string, directory: string): Promise<void>;
  /** Ids of those that exist, where a directory does not tell. */
  ids?(): Promise<readonly string[]>;
}

export class SnapshotDirectories {
  readonly #snapshots: string;
  readonly #volumes: Volumes | undefined;
  readonly #trash: string;
  readonly #logger: Logger;
  readonly #making = new Set<string>();
  readonly #ids: SnapshotIds;
  #deleting: Promise<void> = Promise.resolve();
  #waiting = 0;

  private constructor(root: string, logger: Logger, volumes: Volumes | undefined) {
    this.#volumes = volumes;
    this.#snapshots = join(root, "snapshots");
    this.#trash = join(root, "trash");
    this.#logger = logger;
    this.#ids = new SnapshotIds(root);
  }

  /**
   * Makes the layout where it is missing, and puts into the trash what `recorded`, the ids of all rows, does not name.
   * @throws FAILED_PRECONDITION `SNAPSHOT_ROOT_MISSING` when there are rows but no directory at all: the disk is not
   * mounted, most likely, and taking the snapshots for lost would make them so.
   */
  static async open(
    root: string,
    recorded: ReadonlySet<string>,
    logger: Logger,
    volumes?: Volumes,
  ): Promise<SnapshotDirectories> {
    const directories = new SnapshotDirectories(root, logger, volumes);
    try {
      await mkdir(directories.#snapshots, { recursive: true, mode: 0o711 });
      await mkdir(directories.#trash, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw fromNodeError(error, "mkdir", JSON.stringify(root));
    }
    const ids = await directories.ids();
    if (recorded.size > 0 && ids.length === 0) {
      throw new StatusError(
        "FAILED_PRECONDITION",
        `snapshots "${root}": ${recorded.size} are recorded but the directory is empty; is its file system mounted?`,
        { reason: "SNAPSHOT_ROOT_MISSING" },
      );
    }
    const [trash, volumeIds] = await Promise.all([readdir(directories.#trash), volumes?.ids?.() ?? []]);
    await directories.#ids.load([...recorded, ...ids, ...trash.map(idOfTrash), ...volumeIds]);
    for (const id of ids) if (!recorded.has(id)) await directories.discard(id);
    return directories;
  }

  /** What is in `snapshots/`. */
  ids(): Promise<string[]> {
    return readdir(this.#snapshots);
  }

  /** Ids of those whose files are all there. */
  async whole(): Promise<Set<string>> {
    const [ids, volumes] = await Promise.all([this.ids(), this.#volumes?.ids?.()]);
    if (volumes === undefined) return new Set(ids);
    const existing = new Set(volumes);
    return new Set(ids.filter((id) => existing.has(id)));
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
      const id = await this.#ids.take();
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
    this.#delete(id, target);
  }

  /** One that fails while others wait is tried again after them: they may be what was made from it. */
  #delete(id: string, path: string, last = false): void {
    this.#waiting += 1;
    this.#deleting = this.#deleting.then(async () => {
      this.#waiting -= 1;
      try {
        await this.#volumes?.release(id, path);
        await deleteTree(Buffer.from(path));
      } catch (error) {
        if (this.#waiting > 0 && !last) return this.#delete(id, path, true);
        this.#logger.warn({ path, error }, "removing a snapshot's files failed; the next clean-up tries again");
      }
    });
  }

  /** Those that are put off are waited for too. */
  async #deleted(): Promise<void> {
    while (this.#waiting > 0) await this.#deleting;
    await this.#deleting;
  }

  /** Deletes what `known` does not name and all of the trash; returns how many, when they are gone. */
  async sweep(known: (id: string) => boolean): Promise<number> {
    await this.#deleted();
    // The listing comes first: whatever is listed and by now neither recorded nor in the making never will be.
    const orphans = (await this.ids()).filter((id) => !this.#making.has(id) && !known(id));
    for (const id of orphans) await this.discard(id);
    await this.#deleted();
    const left = await readdir(this.#trash);
    for (const name of left) this.#delete(idOfTrash(name), join(this.#trash, name));
    await this.#deleted();
    return orphans.length + left.length + (await this.#sweepVolumes(known));
  }

  /** Volumes whose directory is gone: a crash, or another's doing. */
  async #sweepVolumes(known: (id: string) => boolean): Promise<number> {
    const directories = new Set(await this.ids());
    const volumes = (await this.#volumes?.ids?.()) ?? [];
    const loose = volumes.filter((id) => !directories.has(id) && !this.#making.has(id) && !known(id));
    // The newest first: the older ones may be what they were made from.
    for (const id of loose.sort((a, b) => Number(b) - Number(a))) this.#delete(id, this.path(id));
    await this.#deleted();
    return loose.length;
  }

  /** Resolves when nothing is being deleted any more. */
  async settled(): Promise<void> {
    await this.#deleted();
  }
}

function idOfTrash(name: string): string {
  return name.slice(0, Math.max(0, name.indexOf("-")));
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
