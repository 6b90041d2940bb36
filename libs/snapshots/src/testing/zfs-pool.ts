/**
 * A ZFS pool on a file, for the tests of one file: by the kernel's ZFS if it has one, else by zfs-fuse, whose daemon is
 * started unless one runs, and ended with the pool.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { retry, type RetryOptions } from "@berth/base";
import { unmountUnder } from "@berth/linux";
import { hasProgram } from "../program.ts";
import { imageDirectory } from "./loop-disk.ts";

const POOL_MIB = 512;
const SOCKET = "/run/zfs/zfs_socket";
/** Some 20 s. */
const PATIENCE: RetryOptions = {
  maxAttempts: 100,
  backoff: { initialMs: 20, maxMs: 300, factor: 1.5 },
  retryable: () => true,
};

export interface ZfsPool extends AsyncDisposable {
  /** Mounts a new data set at a new directory. */
  dataset(name: string): string;
}

/** The pool, or why there can be none. */
export async function startZfsPool(): Promise<ZfsPool | string> {
  if (process.getuid?.() !== 0) return "needs root";
  if (!hasProgram("zpool")) return "needs zpool (zfs-fuse, or ZFS in the kernel)";
  const kernel = (await readFile("/proc/filesystems", "utf8")).includes("\tzfs\n");
  if (kernel || (await answers())) return makePool(undefined);
  if (!existsSync("/dev/fuse")) return "needs /dev/fuse, or ZFS in the kernel";
  if (!hasProgram("zfs-fuse")) return "needs zfs-fuse, or ZFS in the kernel";
  const daemon = spawn("/usr/sbin/zfs-fuse", ["--no-daemon", "--no-kstat-mount"], { stdio: "ignore" });
  daemon.on("error", () => {});
  try {
    await retry(async () => {
      if (!(await answers()) && daemon.exitCode === null) throw new Error("zfs-fuse is not there yet");
    }, PATIENCE);
  } catch {
    await stop(daemon);
  }
  return daemon.exitCode === null && daemon.signalCode === null ? makePool(daemon) : "zfs-fuse does not start here";
}

async function answers(): Promise<boolean> {
  const socket = connect(SOCKET);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function stop(daemon: ChildProcess | undefined): Promise<void> {
  if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
  const closed = once(daemon, "close");
  daemon.kill("SIGTERM");
  await closed;
}

function makePool(daemon: ChildProcess | undefined): ZfsPool {
  const dir = realpathSync(mkdtempSync(join(imageDirectory(), "berth-zfs-")));
  const [pool, image] = [`berth-test-${process.pid}`, join(dir, "pool.img")];
  writeFileSync(image, "");
  truncateSync(image, POOL_MIB << 20);
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  const run = (command: string, ...args: string[]): void =>
    void execFileSync(command, args, { env, stdio: ["ignore", "ignore", "inherit"] });
  run("zpool", "create", "-o", "cachefile=none", "-m", "none", pool, image);
  return {
    dataset(name) {
      const mountpoint = join(dir, name);
      mkdirSync(mountpoint);
      run("zfs", "create", "-o", `mountpoint=${mountpoint}`, `${pool}/${name}`);
      return mountpoint;
    },
    async [Symbol.asyncDispose]() {
      try {
        // What a test unmounted last may be busy for a moment.
        await retry(async () => run("zpool", "destroy", "-f", pool), PATIENCE);
      } finally {
        await stop(daemon);
        unmountUnder(dir, { detach: true });
        rmSync(dir, { recursive: true, force: true });
      }
    },
  };
}
