/**
 * A process to be killed: it makes, commits and removes snapshots as fast as it can, and says on its standard
 * output what was acknowledged to it (`+name` for a commit, `-name` before a removal begins). Arguments: directory, round,
 * overlayfs or btrfs.
 */
import { writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { openMetadata } from "@berth/metadata";
import { writableDirectory } from "../mounts.ts";
import { openBtrfs } from "../btrfs/snapshotter.ts";
import { openOverlayfs } from "../overlayfs/snapshotter.ts";
import { snapshotMigrations } from "../rows.ts";

const [directory = "", round = "", kind = ""] = process.argv.slice(2);
const metadata = await openMetadata({ path: join(directory, "meta.db"), migrations: snapshotMigrations });
const open = kind === "btrfs" ? openBtrfs : openOverlayfs;
const snapshotter = await open({ metadata }, { root: join(directory, "root") });
const say = (text: string): void => void writeSync(1, `${text}\n`);

async function churn(worker: number): Promise<void> {
  for (let parent = "", i = 0; ; i += 1) {
    const name = `${round}-${worker}-${i}`;
    const mounts = await snapshotter.prepare(`${name}-active`, parent);
    writeFileSync(join(writableDirectory(mounts)!, "f"), name);
    if (i % 3 === 2) {
      await snapshotter.remove(`${name}-active`);
      continue;
    }
    await snapshotter.commit(name, `${name}-active`);
    say(`+${name}`);
    if (i % 4 === 1) {
      say(`-${name}`);
      await snapshotter.remove(name);
    } else parent = i % 8 === 0 ? "" : name;
  }
}

await Promise.all([0, 1, 2, 3].map(churn));
