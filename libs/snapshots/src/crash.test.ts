/** A2 and A6, by killing: the agent's process at any moment, and the host's power. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { seededRandom } from "@berth/base";
import { powerCutDisk } from "@berth/linux/testing";
import { openMetadata } from "@berth/metadata";
import { writableDirectory } from "./mounts.ts";
import { openBtrfs } from "./btrfs/snapshotter.ts";
import { openOverlayfs } from "./overlayfs/snapshotter.ts";
import { snapshotMigrations } from "./rows.ts";
import type { Snapshotter } from "./snapshotter.ts";
import { collected } from "./testing/layers.ts";
import { sharedLoopDisk, withoutLoopDisk } from "./testing/loop-disk.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";
const CHURN = new URL("./testing/churn.ts", import.meta.url).pathname;

/** A sample; the soak takes more. */
const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);

/** Starts the churn, kills it after `lines` lines, and gives what was acknowledged and not taken back. */
async function churnAndKill(directory: string, kind: string, round: number, lines: number): Promise<Set<string>> {
  const child = spawn(process.execPath, [CHURN, directory, String(round), kind], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  const alive = new Set<string>();
  let count = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith("+")) alive.add(line.slice(1));
    else alive.delete(line.slice(1));
    if ((count += 1) === lines) child.kill("SIGKILL");
  }
  assert.deepEqual(await closed, [null, "SIGKILL"]);
  return alive;
}

const btrfsDisk = sharedLoopDisk("btrfs");

for (const [kind, rounds, open] of [
  ["overlayfs", 4, openOverlayfs],
  ["btrfs", 2, openBtrfs],
] as const) {
  test(
    `a process killed at any moment leaves every acknowledged commit, and nothing that cleanup does not find, on ${kind} (A6)`,
    { skip: kind === "btrfs" ? withoutLoopDisk("btrfs") : skip },
    async (t) => {
      const base = kind === "btrfs" ? btrfsDisk() : tmpdir();
      const directory = realpathSync(mkdtempSync(join(base, "berth-churn-")));
      if (kind === "overlayfs") t.after(() => rmSync(directory, { recursive: true, force: true }));
      const random = seededRandom(7);
      const committed = new Set<string>();
      for (let round = 0; round < rounds * FACTOR; round += 1) {
        const lines = 20 + Math.floor(random() * 60);
        for (const name of await churnAndKill(directory, kind, round, lines)) committed.add(name);
        await using metadata = await openMetadata({ path: join(directory, "meta.db"), migrations: snapshotMigrations });
        await using snapshotter = await open({ metadata }, { root: join(directory, "root") });
        await checkAfterKill(snapshotter, committed, join(directory, "root"));
      }
    },
  );
}

async function checkAfterKill(snapshotter: Snapshotter, committed: ReadonlySet<string>, root: string): Promise<void> {
  const found = await collected(snapshotter.walk());
  const keys = new Set(found.map(({ key }) => key));
  assert.deepEqual(
    [...committed].filter((name) => !keys.has(name)),
    [],
    "acknowledged, but gone",
  );
  for (const { kind, key } of found) {
    if (kind !== "active") continue;
    // Also one whose commit was cut short is written to.
    writeFileSync(join(writableDirectory(await snapshotter.mounts(key))!, "after"), "");
    await snapshotter.remove(key);
  }
  await snapshotter.cleanup();
  assert.equal(readdirSync(join(root, "snapshots")).length, (await collected(snapshotter.walk())).length);
  assert.deepEqual(readdirSync(join(root, "trash")), []);
}

test(
  "what sync acknowledged is whole after a power cut, and what it did not is not called committed (A2)",
  {
    skip,
  },
  async (t) => {
    const disk = powerCutDisk(t);
    const opened = async (boot: string, body: (snapshotter: Snapshotter) => Promise<void>): Promise<void> => {
      await using metadata = await openMetadata({ path: join(disk.path, "meta.db"), migrations: snapshotMigrations });
      await using snapshotter = await openOverlayfs({ metadata, bootId: boot }, { root: join(disk.path, "root") });
      await body(snapshotter);
    };
    const text = "x".repeat(300_000);
    await opened("boot-1", async (snapshotter) => {
      for (const [name, parent] of [
        ["synced", ""],
        ["unsynced", "synced"],
      ] as const) {
        const mounts = await snapshotter.prepare(`${name}-active`, parent);
        writeFileSync(join(writableDirectory(mounts)!, "f"), text);
        await snapshotter.commit(name, `${name}-active`);
        if (name === "synced") await snapshotter.sync();
      }
    });
    disk.cut();
    await opened("boot-2", async (snapshotter) => {
      const committed = await collected(snapshotter.walk({ kind: "committed" }));
      assert.deepEqual(
        committed.map(({ key }) => key),
        ["synced"],
      );
      const [view] = await snapshotter.view("v", "synced");
      assert.equal(readFileSync(join(view!.source, "f"), "utf8"), text);
    });
  },
);
