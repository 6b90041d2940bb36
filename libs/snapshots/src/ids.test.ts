/** Ids are used once: an older copy of the metadata never shows a snapshot the files of another. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { openMetadata } from "@berth/metadata";
import { writableDirectory } from "./mounts.ts";
import { openNative } from "./native/snapshotter.ts";
import { SnapshotIds } from "./ids.ts";
import { snapshotMigrations } from "./rows.ts";
import type { Snapshotter } from "./snapshotter.ts";
import { collected } from "./testing/layers.ts";

function scratch(t: TestContext): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "berth-ids-")));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function opened(at: string, body: (snapshotter: Snapshotter) => Promise<void>): Promise<void> {
  {
    await using metadata = await openMetadata({ path: join(at, "meta.db"), migrations: snapshotMigrations });
    await using snapshotter = await openNative({ metadata }, { root: join(at, "root") });
    await body(snapshotter);
  }
  for (const suffix of ["-wal", "-shm"]) assert.ok(!existsSync(join(at, `meta.db${suffix}`)), "closed whole");
}

/** Every snapshot holds one file, which says whose it is. */
async function make(snapshotter: Snapshotter, name: string): Promise<void> {
  const mounts = await snapshotter.prepare(`${name}-active`, "");
  writeFileSync(join(writableDirectory(mounts)!, "owner"), name);
  await snapshotter.commit(name, `${name}-active`);
  await snapshotter.sync();
}

async function owners(snapshotter: Snapshotter): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { key } of await collected(snapshotter.walk({ kind: "committed" }))) {
    const [view] = await snapshotter.view(`view-${key}`, key);
    found[key] = readFileSync(join(view!.source, "owner"), "utf8");
    await snapshotter.remove(`view-${key}`);
  }
  return found;
}

test("a snapshotter with older metadata never shows a row the files of another snapshot", async (t) => {
  const at = scratch(t);
  const [live, first, second] = ["meta.db", "first.db", "second.db"].map((name) => join(at, name)) as [
    string,
    string,
    string,
  ];
  await opened(at, async (snapshotter) => {
    await make(snapshotter, "base");
    await make(snapshotter, "of-a");
  });
  copyFileSync(live, first);
  // Each removal takes the highest, and each open would count anew from what is left.
  await opened(at, (snapshotter) => snapshotter.remove("of-a"));
  await opened(at, (snapshotter) => make(snapshotter, "of-b"));
  copyFileSync(live, second);
  copyFileSync(first, live);
  await opened(at, async (snapshotter) => {
    assert.deepEqual(await owners(snapshotter), { base: "base" });
    await snapshotter.cleanup();
  });
  // The older copy's counter is older too: what it gives out must not be what the newer copy names.
  await opened(at, (snapshotter) => make(snapshotter, "of-c"));
  copyFileSync(second, live);
  await opened(at, async (snapshotter) => assert.deepEqual(await owners(snapshotter), { base: "base" }));
});

test("a snapshotter sets aside, as it opens, the files that no row names", async (t) => {
  const at = scratch(t);
  await opened(at, (snapshotter) => make(snapshotter, "base"));
  copyFileSync(join(at, "meta.db"), join(at, "old.db"));
  await opened(at, (snapshotter) => make(snapshotter, "orphan"));
  copyFileSync(join(at, "old.db"), join(at, "meta.db"));
  await opened(at, async (snapshotter) => assert.deepEqual(await owners(snapshotter), { base: "base" }));
  await opened(at, async (snapshotter) => assert.equal(await snapshotter.cleanup(), 0));
});

test("SnapshotIds gives no id twice, over restarts and to many at once, and says when its file is damaged", async (t) => {
  const root = scratch(t);
  const all: string[] = [];
  for (let round = 0; round < 3; round += 1) {
    const ids = new SnapshotIds(root);
    await ids.load([]);
    all.push(...(await Promise.all(Array.from({ length: 200 }, () => ids.take()))));
  }
  assert.equal(new Set(all).size, 600);
  const lost = new SnapshotIds(scratch(t));
  await lost.load(["7", "nonsense"]);
  assert.equal(await lost.take(), "8");
  writeFileSync(join(root, "next-id"), "");
  await assert.rejects(new SnapshotIds(root).load([]), { code: "DATA_LOSS", reason: "SNAPSHOT_IDS_INVALID" });
});
