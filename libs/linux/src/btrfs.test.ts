import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  btrfsQuotaEnabled,
  createSubvolume,
  destroySubvolume,
  isSubvolume,
  isSubvolumeReadonly,
  limitSubvolume,
  setSubvolumeReadonly,
  snapshotSubvolume,
  subvolumeOwnBytes,
} from "./btrfs.ts";
import { scratch, withoutRoot } from "./testing/scratch.ts";

const skip = withoutRoot || (existsSync("/usr/sbin/mkfs.btrfs") ? false : "needs mkfs.btrfs (btrfs-progs)");

test("subvolumes are made, snapshotted, frozen, bounded and destroyed", { skip }, (t) => {
  const dir = scratch(t);
  const [image, disk] = [join(dir, "disk.img"), join(dir, "disk")];
  mkdirSync(disk);
  execFileSync("truncate", ["-s", "200M", image]);
  execFileSync("/usr/sbin/mkfs.btrfs", ["-q", image]);
  execFileSync("mount", ["-o", "loop", image, disk]);
  const [one, two] = [join(disk, "one"), join(disk, "zwö")];
  createSubvolume(one);
  assert.throws(() => createSubvolume(one), { code: "ALREADY_EXISTS" });
  writeFileSync(join(one, "f"), "1");
  snapshotSubvolume(one, two);
  writeFileSync(join(two, "f"), "2");
  assert.deepEqual([readFileSync(join(one, "f"), "utf8"), isSubvolume(two), isSubvolume(disk)], ["1", true, true]);
  mkdirSync(join(disk, "plain"));
  assert.deepEqual([isSubvolume(join(disk, "plain")), isSubvolume(join(disk, "none"))], [false, false]);
  setSubvolumeReadonly(one, true);
  assert.deepEqual([isSubvolumeReadonly(one), isSubvolumeReadonly(two)], [true, false]);
  assert.throws(() => writeFileSync(join(one, "f"), ""), { code: "EROFS" });
  assert.deepEqual([btrfsQuotaEnabled(disk), subvolumeOwnBytes(two)], [false, undefined]);
  assert.throws(() => limitSubvolume(two, 1 << 20), { reason: "ENOTCONN" });
  execFileSync("btrfs", ["quota", "enable", disk]);
  assert.equal(btrfsQuotaEnabled(disk), true);
  limitSubvolume(two, 1 << 20);
  const limits = (): string => execFileSync("btrfs", ["qgroup", "show", "-re", two], { encoding: "utf8" });
  assert.match(limits(), /1\.00MiB/);
  writeFileSync(join(two, "g"), Buffer.alloc(600_000, "x"));
  execFileSync("sync", ["-f", disk]);
  const own = subvolumeOwnBytes(two) ?? 0;
  assert.ok(own >= 600_000 && own < 1 << 20, `${own} bytes`);
  limitSubvolume(two, undefined);
  assert.doesNotMatch(limits(), /1\.00MiB/);
  for (const path of [one, two]) destroySubvolume(path);
  assert.deepEqual([existsSync(one), existsSync(two)], [false, false]);
  assert.throws(() => destroySubvolume(one), { code: "NOT_FOUND" });
  assert.throws(() => createSubvolume(join(dir, "not-btrfs")), { reason: /ENOTTY|EINVAL/ });
});
