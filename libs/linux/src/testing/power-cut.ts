/**
 * A disk whose power can be cut: ext4 or xfs on a loop device, stopped by the shutdown ioctl without flushing its log. What
 * was not synced before is then lost, or torn, as on a disk that keeps no promise but those of its flushes.
 */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { TestContext } from "node:test";
import { hasErrno } from "../errno.ts";
import { check, libc } from "../libc.ts";
import { unmount, unmountAll } from "../mount.ts";
import { isMountPoint, mountsUnder } from "../mountinfo.ts";
import { scratch } from "./scratch.ts";

export type PowerCutFileSystem = "ext4" | "xfs";

/** _IOR('X', 125, __u32), ext4 and xfs alike. */
const IOC_SHUTDOWN = 0x8004587d;
const SHUTDOWN_WITHOUT_LOG_FLUSH = 2;
/** What mkfs.xfs asks for at least; the image is sparse. */
const SMALLEST_MIB: Readonly<Record<PowerCutFileSystem, number>> = { ext4: 64, xfs: 320 };

export interface PowerCutDisk {
  /** Where the file system is mounted, before and after. */
  readonly path: string;
  /** Loses what is not on disk, and mounts again. Nothing may be open on it that must go on working. */
  cut(): void;
}

/** Needs root, e2fsprogs and util-linux; goes with the test. */
export function powerCutDisk(t: TestContext, sizeMiB = 64): PowerCutDisk {
  const dir = scratch(t);
  const [image, path] = [join(dir, "disk.img"), join(dir, "disk")];
  makeDisk(image, path, "ext4", sizeMiB);
  attach(image, path);
  return {
    path,
    cut() {
      shutDown(path);
      unmountAll(path);
      attach(image, path);
    },
  };
}

/** The same in two steps, for a disk that another process is writing to. */
export interface LivePowerCutDisk extends AsyncDisposable {
  readonly path: string;
  /** From here on every write to it fails, and nothing more reaches the disk. */
  shutDown(): void;
  /** Mounts again what is on disk. Those who wrote to it must have ended; what they mounted below is unmounted. */
  remount(): Promise<void>;
}

/** Needs root, the file system's mkfs and util-linux. */
export function livePowerCutDisk(kind: PowerCutFileSystem, sizeMiB = 64): LivePowerCutDisk {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "berth-power-")));
  const [image, path] = [join(dir, "disk.img"), join(dir, "disk")];
  makeDisk(image, path, kind, Math.max(sizeMiB, SMALLEST_MIB[kind]));
  attach(image, path);
  return {
    path,
    shutDown: () => shutDown(path),
    async remount() {
      await detach(path);
      attach(image, path);
    },
    async [Symbol.asyncDispose]() {
      await detach(path);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function makeDisk(image: string, path: string, kind: PowerCutFileSystem, sizeMiB: number): void {
  const fd = openSync(image, "w");
  ftruncateSync(fd, sizeMiB << 20);
  closeSync(fd);
  mkdirSync(path);
  const options = kind === "ext4" ? ["-q", "-F"] : ["-q"];
  execFileSync(`mkfs.${kind}`, [...options, image], { stdio: "ignore" });
}

/** By mount(8) rather than ours: it sets up the loop device and lets it go with the mount. */
function attach(image: string, path: string): void {
  execFileSync("mount", ["-o", "loop", image, path]);
}

function shutDown(path: string): void {
  const root = openSync(path, "r");
  const how = Buffer.alloc(4);
  how.writeUInt32LE(SHUTDOWN_WITHOUT_LOG_FLUSH);
  try {
    check(libc.ioctlPointer(root, IOC_SHUTDOWN, how), "ioctl SHUTDOWN", path);
  } finally {
    closeSync(root);
  }
}

/**
 * Really unmounts: one that is merely detached would go on in memory, and the next mount of the image would be that one
 * again. A killed writer's files may be open for a moment longer.
 */
async function detach(path: string): Promise<void> {
  for (let tries = 1_000; isMountPoint(path); tries -= 1) {
    const below = mountsUnder(path).filter(({ target }) => target !== path);
    for (const { target } of below.reverse()) unmount(target, { detach: true });
    try {
      unmount(path);
    } catch (error) {
      if (tries === 0 || !hasErrno(error, "EBUSY")) throw error;
      await delay(10);
    }
  }
}
