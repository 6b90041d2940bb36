import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createSubvolume, isSubvolume, isSubvolumeReadonly, setSubvolumeReadonly } from "@berth/linux";
import { snapshotterConformance } from "../testing/conformance.ts";
import { directoryHost, type DirectoryHost } from "../testing/host.ts";
import { layer, treeOf, within } from "../testing/layers.ts";
import { loopDisk, sharedLoopDisk, withoutLoopDisk } from "../testing/loop-disk.ts";
import { randomOperations } from "../testing/random.ts";
import { probe } from "./probe.ts";
import { openBtrfs } from "./snapshotter.ts";

const skip = withoutLoopDisk("btrfs");
const disk = sharedLoopDisk("btrfs", (path) => execFileSync("btrfs", ["quota", "enable", path]));

const host = (t: TestContext, at = disk()): Promise<DirectoryHost> =>
  directoryHost(t, { on: { at }, open: (metadata, root) => openBtrfs({ metadata }, { root }) });

snapshotterConformance("btrfs", (t) => host(t), { skip });

for (const seed of [11, 12]) {
  test(`btrfs agrees with the model under random operations, seed ${seed}`, { skip }, async (t) => {
    await randomOperations(await host(t), { seed, operations: 150 });
  });
}

test("openBtrfs keeps trees as subvolumes, and commits by making them read-only", { skip }, async (t) => {
  const at = await host(t);
  const fs = (id: number): string => join(at.root, "snapshots", String(id), "fs");
  await layer(at, "base", "", (root) => writeFileSync(join(root, "f"), "1"));
  assert.deepEqual([isSubvolume(fs(1)), isSubvolumeReadonly(fs(1))], [true, true]);
  assert.throws(() => writeFileSync(join(fs(1), "g"), ""), { code: "EROFS" }, "also past every mount");
  assert.deepEqual(await at.snapshotter.prepare("k", "base"), [
    { type: "bind", source: fs(2), options: ["rw", "rbind"] },
  ]);
  assert.deepEqual(await at.snapshotter.view("v", "base"), [{ type: "bind", source: fs(1), options: ["ro", "rbind"] }]);
  assert.deepEqual([isSubvolume(fs(2)), isSubvolume(fs(3))], [true, false]);
});

test("a commit that a crash cut short leaves an active snapshot that is writable again", { skip }, async (t) => {
  const at = await host(t);
  await at.snapshotter.prepare("k", "");
  const fs = join(at.root, "snapshots", "1", "fs");
  setSubvolumeReadonly(fs, true);
  await at.reopen();
  writeFileSync(join(fs, "f"), "");
  await at.snapshotter.commit("k", "k");
  assert.equal(isSubvolumeReadonly(fs), true);
});

test("of two commits of one snapshot the loser leaves it read-only", { skip }, async (t) => {
  const at = await host(t);
  await at.snapshotter.prepare("k", "");
  const tries = await Promise.allSettled(["a", "b"].map((name) => at.snapshotter.commit(name, "k")));
  assert.deepEqual(tries.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  assert.equal(isSubvolumeReadonly(join(at.root, "snapshots", "1", "fs")), true);
});

test("prepare refuses a bound while quotas are off, or warns by policy", { skip }, async (t) => {
  const warnings: string[] = [];
  const logger = { warn: (_: object, text: string) => void warnings.push(text) };
  const at = loopDisk(t, "btrfs");
  const refusing = await host(t, at);
  assert.equal(refusing.snapshotter.capabilities.quota, false);
  await assert.rejects(refusing.snapshotter.prepare("k", "", { maxBytes: 1 << 20 }), {
    code: "UNIMPLEMENTED",
    reason: "SNAPSHOT_QUOTA_UNSUPPORTED",
    message: /quotas are off; switch them on with "btrfs quota enable /,
  });
  const warning = await directoryHost(t, {
    on: { at },
    open: (metadata, root) =>
      openBtrfs({ metadata, missingQuota: "warn", logger: Object.assign(Object.create(null), logger) }, { root }),
  });
  await warning.snapshotter.prepare("k", "", { maxBytes: 1 << 20 });
  assert.match(warnings.join(), /"k": btrfs cannot bound its size.*may grow without bound/);
  execFileSync("btrfs", ["quota", "enable", at]);
  assert.equal(refusing.snapshotter.capabilities.quota, true, "seen without a restart");
});

test("countedBytes is what a snapshot has of its own, as soon as the file system has counted", { skip }, async (t) => {
  const at = await host(t);
  await layer(at, "base", "", (root) => writeFileSync(join(root, "big"), Buffer.alloc(3 << 20, "x")));
  await at.snapshotter.prepare("k", "base");
  await within(at, await at.snapshotter.mounts("k"), (root) =>
    writeFileSync(join(root, "f"), Buffer.alloc(1 << 20, "y")),
  );
  execFileSync("sync", ["-f", at.root]);
  const counted = (await at.snapshotter.countedBytes?.("k")) ?? 0;
  assert.ok(counted >= 1 << 20 && counted < 2 << 20, `${counted} bytes`);
  assert.equal(await at.snapshotter.countedBytes?.("base"), undefined, "that is what usage has on record");
});

test("remove takes a subvolume away in one step, also one with subvolumes inside", { skip }, async (t) => {
  const at = await host(t);
  await at.snapshotter.prepare("k", "");
  await within(at, await at.snapshotter.mounts("k"), (root) => {
    createSubvolume(join(root, "inner"));
    writeFileSync(join(root, "inner", "f"), "");
  });
  assert.deepEqual(Object.keys(await treeOf(at, "k")), ["inner", "inner/f"]);
  await at.snapshotter.remove("k");
  assert.equal(existsSync(join(at.root, "snapshots", "1")), false);
  await at.snapshotter.cleanup();
  assert.deepEqual(readdirSync(join(at.root, "trash")), []);
});

test("probe says which file system it met", { skip }, () => {
  assert.deepEqual(probe(join(disk(), "new")), { usable: true });
  assert.deepEqual(readdirSync(join(disk(), "new")), []);
  const elsewhere = mkdtempSync(join(tmpdir(), "berth-probe-"));
  const answer = probe(elsewhere);
  if (lstatSync(elsewhere).dev !== lstatSync(disk()).dev) assert.equal(answer.usable, false);
  assert.match(answer.usable ? "" : answer.reason, /not on btrfs/);
  execFileSync("rmdir", [elsewhere]);
});
