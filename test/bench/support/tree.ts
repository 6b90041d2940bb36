/** What was unpacked, counted: two runtimes that were given the same layer must have made the same files of it. */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { StatusError } from "@berth/base";

const SETTLE_MS = 300;

export interface Tree {
  readonly files: number;
  readonly links: number;
  readonly bytes: number;
}

/** All regular files and symbolic links beneath a directory. */
export function treeOf(dir: string): Tree {
  const tree = { files: 0, links: 0, bytes: 0 };
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) tree.links += 1;
    if (!entry.isFile()) continue;
    tree.files += 1;
    tree.bytes += lstatSync(join(entry.parentPath, entry.name)).size;
  }
  return tree;
}

/** The same of a directory from which something is still being removed, once that is through. */
export async function settledTreeOf(dir: string): Promise<Tree> {
  let before = "";
  for (;;) {
    const tree = attempt(dir);
    const now = JSON.stringify(tree);
    if (tree !== undefined && now === before) return tree;
    before = now ?? "";
    await delay(SETTLE_MS);
  }
}

function attempt(dir: string): Tree | undefined {
  try {
    return treeOf(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** @throws DATA_LOSS when they differ. */
export function compareTrees({ ours, peers }: { readonly ours?: Tree; readonly peers?: Tree }): void {
  const [left, right] = [JSON.stringify(ours), JSON.stringify(peers)];
  if (ours !== undefined && ours.files > 0 && left === right) return;
  throw new StatusError("DATA_LOSS", `the two sides did not unpack the same: berth ${left}, containerd ${right}`);
}
