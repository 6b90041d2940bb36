/**
 * A disk whose power can be cut: ext4 on a loop device, stopped by the shutdown ioctl without flushing its log. What was
 * not synced before is then lost, or torn, just as on real hardware.
 */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { check, libc } from "../libc.ts";
import { unmountAll } from "../mount.ts";
import { scratch } from "./scratch.ts";

/** _IOR('X', 125, __u32), ext4 and xfs alike. */
const IOC_SHUTDOWN = 0x8004587d;
const SHUTDOWN_WITHOUT_LOG_FLUSH = 2;

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
  const fd = openSync(image, "w");
  ftruncateSync(fd, sizeMiB << 20);
  closeSync(fd);
  mkdirSync(path);
  execFileSync("mkfs.ext4", ["-q", "-F", image], { stdio: "ignore" });
  // mount(8) rather than ours: it sets up the loop device and lets it go with the mount.
  const attach = (): void => void execFileSync("mount", ["-o", "loop", image, path]);
  attach();
  return {
    path,
    cut() {
      const root = openSync(path, "r");
      const how = Buffer.alloc(4);
      how.writeUInt32LE(SHUTDOWN_WITHOUT_LOG_FLUSH);
      try {
        check(libc.ioctlPointer(root, IOC_SHUTDOWN, how), "ioctl SHUTDOWN", path);
      } finally {
        closeSync(root);
      }
      unmountAll(path);
      attach();
    },
  };
}
