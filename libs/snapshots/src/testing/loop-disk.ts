/** A file system of its own on a loop device, for as long as a test runs. */
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { unmountUnder } from "@berth/linux";

export type LoopKind = "btrfs" | "xfs" | "ext4";

const MKFS: Readonly<Record<LoopKind, readonly string[]>> = {
  btrfs: ["mkfs.btrfs", "-q"],
  xfs: ["mkfs.xfs", "-q", "-m", "reflink=1"],
  ext4: ["mkfs.ext4", "-q", "-F"],
};

const MIN_MIB: Readonly<Record<LoopKind, number>> = { btrfs: 256, xfs: 320, ext4: 64 };

/** Why tests with such a disk cannot run here; false when they can. */
export function withoutLoopDisk(kind: LoopKind): string | false {
  if (process.getuid?.() !== 0) return "needs root";
  const program = MKFS[kind][0]!;
  const found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].some((directory) => existsSync(join(directory, program)));
  return found ? false : `needs ${program}`;
}

/** Where ends are announced: a test's context has it. */
export interface Ending {
  after(body: () => void): void;
}

/** A disk that all tests of a file share, made when first asked for. Call it where the file is loaded, not in a test. */
export function sharedLoopDisk(kind: LoopKind, prepare?: (path: string) => void): () => string {
  const endings: (() => void)[] = [];
  after(() => endings.forEach((end) => end()));
  let path: string | undefined;
  return () => {
    if (path === undefined) {
      path = loopDisk({ after: (body) => endings.push(body) }, kind);
      prepare?.(path);
    }
    return path;
  };
}

/** In memory where there is a place for that: what is tested is not the disk below. */
export function imageDirectory(): string {
  return existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
}

/** Sparse: takes what is written to it. Returns where it is mounted; goes with the test. */
export function loopDisk(t: Ending, kind: LoopKind): string {
  const dir = realpathSync(mkdtempSync(join(imageDirectory(), `berth-${kind}-`)));
  const [image, path] = [join(dir, "disk.img"), join(dir, "disk")];
  t.after(() => {
    unmountUnder(dir, { detach: true });
    rmSync(dir, { recursive: true, force: true });
  });
  const fd = openSync(image, "w");
  ftruncateSync(fd, MIN_MIB[kind] << 20);
  closeSync(fd);
  mkdirSync(path);
  const [program = "", ...options] = MKFS[kind];
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  execFileSync(program, [...options, image], { stdio: ["ignore", "ignore", "inherit"], env });
  // mount(8) rather than ours: it sets up the loop device and lets it go with the mount.
  execFileSync("mount", ["-o", "loop", image, path]);
  return path;
}
