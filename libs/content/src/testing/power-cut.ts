/**
 * A disk whose power can be cut: an ext4 in an image file behind a loop device.
 *
 * What the file system has handed to its device is in the image; what it still holds in memory is not. A copy of the image,
 * made while nothing writes, is therefore what a disk without a volatile cache would have after a power cut.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const SIZE = "64M";

/** Why it cannot be had here, for a test's `skip`; false if it can. */
export const noPowerCut: string | false = process.getuid?.() === 0 ? false : "mounting a loop device needs root";

export class PowerCutDisk implements AsyncDisposable {
  readonly mountPoint: string;
  readonly #folder: string;
  #generation = 0;

  private constructor(folder: string) {
    this.#folder = folder;
    this.mountPoint = join(folder, "mount");
  }

  static async make(): Promise<PowerCutDisk> {
    const disk = new PowerCutDisk(await mkdtemp(join(tmpdir(), "berth-power-cut-")));
    await mkdir(disk.mountPoint);
    await run("truncate", ["--size", SIZE, disk.#image]);
    await run("mkfs.ext4", ["-q", "-F", disk.#image]);
    await run("mount", ["-o", "loop", disk.#image, disk.mountPoint]);
    return disk;
  }

  /** Cuts the power while `pid`, which writes to the disk, is at whatever it is at; ends it, and mounts what is left. */
  async cut(pid: number): Promise<void> {
    await stopped(pid);
    const before = this.#image;
    const after = join(this.#folder, `disk-${this.#generation + 1}.img`);
    // The kernel may be writing back on its own account; then the copy would mix two moments and is made again.
    for (let copied = ""; copied !== (await hashOf(before)); copied = await hashOf(after)) {
      await copyFile(before, after, constants.COPYFILE_FICLONE);
    }
    process.kill(pid, "SIGKILL");
    await this.#unmount();
    await rm(before);
    this.#generation += 1;
    await run("mount", ["-o", "loop", this.#image, this.mountPoint]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#unmount();
    await rm(this.#folder, { recursive: true, force: true });
  }

  get #image(): string {
    return join(this.#folder, `disk-${this.#generation}.img`);
  }

  /** The killed writer may hold its files for a moment longer. */
  async #unmount(): Promise<void> {
    for (let tries = 200; ; tries -= 1) {
      try {
        await run("umount", [this.mountPoint]);
        return;
      } catch (error) {
        if (tries === 0 || !String(error).includes("busy")) throw error;
      }
    }
  }
}

/** Stops every thread of the process, and waits until they are. */
async function stopped(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  for (;;) {
    const threads = await readdir(`/proc/${pid}/task`);
    const states = await Promise.all(threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, "utf8")));
    if (states.every((state) => state.slice(state.lastIndexOf(")") + 2).startsWith("T"))) return;
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha1");
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
