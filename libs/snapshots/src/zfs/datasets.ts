/**
 * The data sets of one snapshotter, by the programs `zfs` of OpenZFS and of zfs-fuse, which take the same words.
 *
 * They differ in mounting: the kernel's file systems are `legacy` and mounted by whoever wants them (`mount -t zfs`); those
 * of zfs-fuse are mounted by its daemon where their `mountpoint` says, and bound from there.
 */
import { retry, StatusError, type RetryOptions } from "@berth/base";
import { mounts } from "@berth/linux";
import { runProgram } from "../program.ts";

export type ZfsKind = "kernel" | "fuse";

/** The name of the snapshot that a committed data set has; clones are made of it (containerd's name). */
const COMMITTED = "snapshot";

/** An unmount by zfs-fuse ends some time after it was asked for: until then the data set is busy. */
const WHILE_BUSY: RetryOptions = {
  maxAttempts: 5,
  backoff: { initialMs: 20, maxMs: 200, factor: 2 },
  retryable: () => true,
};

export interface DatasetOptions {
  /** Where zfs-fuse mounts it. */
  readonly mountpoint: string;
  readonly maxBytes: number | undefined;
  readonly readonly: boolean;
}

/** The data set that is mounted at exactly this directory. */
export function datasetAt(directory: string): { readonly dataset: string; readonly kind: ZfsKind } | undefined {
  const found = mounts().findLast(({ target }) => target === directory);
  if (found === undefined) return undefined;
  if (found.fsType === "zfs") return { dataset: found.source, kind: "kernel" };
  return found.fsType === "fuse.zfs" ? { dataset: found.source, kind: "fuse" } : undefined;
}

export class Datasets {
  readonly #parent: string;
  readonly kind: ZfsKind;

  constructor(parent: string, kind: ZfsKind) {
    this.#parent = parent;
    this.kind = kind;
  }

  name(id: string): string {
    return `${this.#parent}/${id}`;
  }

  async create(id: string, options: DatasetOptions): Promise<void> {
    await zfs("create", ...this.#properties(options), this.name(id));
  }

  /** Of a committed one. */
  async clone(id: string, from: string, options: DatasetOptions): Promise<void> {
    await zfs("clone", ...this.#properties(options), `${this.name(from)}@${COMMITTED}`, this.name(id));
  }

  #properties({ mountpoint, maxBytes, readonly }: DatasetOptions): string[] {
    const where = this.kind === "kernel" ? "legacy" : mountpoint;
    const bound = maxBytes === undefined ? [] : ["-o", `quota=${maxBytes}`];
    return ["-o", `mountpoint=${where}`, ...bound, ...(readonly ? ["-o", "readonly=on"] : [])];
  }

  /** Returns once it is on disk: taking a snapshot waits for the pool's transaction. */
  async snapshot(id: string): Promise<void> {
    const name = `${this.name(id)}@${COMMITTED}`;
    try {
      await zfs("snapshot", name);
    } catch (error) {
      // A crash between snapshot and record left one of an earlier state.
      const dropped = await runProgram("zfs", ["destroy", name]);
      if (!dropped.ok) throw error;
      await zfs("snapshot", name);
    }
  }

  async dropSnapshot(id: string): Promise<void> {
    await zfs("destroy", `${this.name(id)}@${COMMITTED}`);
  }

  /** What it takes beside what it shares with the one it was cloned from; up to some seconds old for an active one. */
  async usedBytes(id: string): Promise<number> {
    return Number((await zfs("get", "-Hp", "-o", "value", "used", this.name(id))).trim());
  }

  /** zfs-fuse only: after the daemon came back, what is not mounted is mounted. */
  async mount(id: string): Promise<void> {
    await zfs("mount", this.name(id));
  }

  async ids(): Promise<readonly string[]> {
    const prefix = `${this.#parent}/`;
    const names = (await zfs("list", "-H", "-r", "-t", "filesystem", "-o", "name", this.#parent)).split("\n");
    const ids = names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
    return ids.filter((id) => /^\d+$/.test(id));
  }

  /** With its snapshot; unmounts it. Gone already is no error. */
  async destroy(id: string): Promise<void> {
    const name = this.name(id);
    await retry(async () => {
      const outcome = await runProgram("zfs", ["destroy", "-r", "-f", name]);
      if (outcome.ok || !(await runProgram("zfs", ["list", "-H", "-o", "name", name])).ok) return;
      throw failed(["destroy", name], outcome.failure);
    }, WHILE_BUSY);
  }
}

/** @throws RESOURCE_EXHAUSTED `SNAPSHOT_DISK_FULL`; INTERNAL `ZFS_FAILED`. */
export async function zfs(...args: string[]): Promise<string> {
  const outcome = await runProgram("zfs", args);
  if (outcome.ok) return outcome.stdout;
  throw failed(args, outcome.failure);
}

function failed(args: readonly string[], failure: string): StatusError {
  const full = /out of space|quota exceeded/.test(failure);
  return new StatusError(full ? "RESOURCE_EXHAUSTED" : "INTERNAL", `zfs ${args.join(" ")}: ${failure}`, {
    reason: full ? "SNAPSHOT_DISK_FULL" : "ZFS_FAILED",
  });
}
