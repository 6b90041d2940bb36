/** What a full copy keeps, and that it takes no space where the file system shares blocks. */
import assert from "node:assert/strict";
import {
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { diskInfo, getXattr, openDirectory, setTimes, setXattr, syncfsBlocking } from "@berth/linux";
import { loopDisk, sharedLoopDisk, withoutLoopDisk } from "../testing/loop-disk.ts";
import { readTree } from "../testing/tree.ts";
import { copyTree } from "./copy.ts";

const MIB = 1 << 20;
const skip = process.getuid?.() === 0 ? false : "needs root";

function fill(root: string): void {
  mkdirSync(join(root, "dir"), { recursive: true });
  writeFileSync(join(root, "dir", "big"), Buffer.alloc(20 * MIB, "berth"));
  linkSync(join(root, "dir", "big"), join(root, "hard"));
  symlinkSync("dir/big", join(root, "link"));
  setXattr(
    join(root, "dir", "big"),
    "security.capability",
    Buffer.from("0100000200200000000000000000000000000000", "hex"),
  );
  setXattr(join(root, "dir"), "user.bytes", Buffer.from([0xff, 0, 0x80]));
  const fd = openSync(join(root, "holes"), "w");
  ftruncateSync(fd, 64 * MIB);
  writeSync(fd, "end", 63 * MIB);
  closeSync(fd);
}

function check(target: string): void {
  const [big, hard, holes] = ["dir/big", "hard", "holes"].map((name) =>
    lstatSync(join(target, name), { bigint: true }),
  );
  assert.equal(big!.ino, hard!.ino, "one file with two names");
  assert.equal(getXattr(join(target, "dir/big"), "security.capability")?.length, 20);
  assert.deepEqual(getXattr(join(target, "dir"), "user.bytes"), Buffer.from([0xff, 0, 0x80]));
  assert.ok(holes!.size === BigInt(64 * MIB) && holes!.blocks * 512n < BigInt(2 * MIB), "holes stay holes");
  assert.equal(readFileSync(join(target, "holes")).toString("latin1", 63 * MIB, 63 * MIB + 3), "end");
}

function directory(path: string): { readonly fd: number } & Disposable {
  const fd = openDirectory(path);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

function usedBytes(disk: string): number {
  using root = directory(disk);
  syncfsBlocking(root.fd);
  const { totalBytes, freeBytes } = diskInfo(disk);
  return totalBytes - freeBytes;
}

const disks = { btrfs: sharedLoopDisk("btrfs"), xfs: sharedLoopDisk("xfs") };

for (const kind of ["btrfs", "xfs"] as const) {
  test(`copyTree shares the blocks on ${kind}, and loses nothing`, { skip: withoutLoopDisk(kind) }, async () => {
    const disk = disks[kind]();
    const [source, target] = [join(disk, "source"), join(disk, "target")];
    fill(source);
    using dir = directory(join(source, "dir"));
    setTimes(dir.fd, { seconds: 1_500_000_000, nanoseconds: 123_456_789 }, { seconds: 1, nanoseconds: 1 });
    const before = usedBytes(disk);
    await copyTree(source, target);
    assert.ok(usedBytes(disk) - before < 4 * MIB, `${usedBytes(disk) - before} bytes more`);
    assert.deepEqual(readTree(target), readTree(source));
    check(target);
    const [theirs, ours] = [source, target].map((root) => lstatSync(join(root, "dir"), { bigint: true }).mtimeNs);
    assert.equal(ours, theirs, "to the nanosecond");
    writeFileSync(join(target, "dir/big"), "changed");
    assert.equal(lstatSync(join(source, "dir/big")).size, 20 * MIB, "the source is as it was");
  });
}

test(
  "copyTree copies bytes where blocks cannot be shared, and loses nothing",
  { skip: withoutLoopDisk("ext4") || skip },
  async (t) => {
    const disk = loopDisk(t, "ext4");
    const [source, target] = [join(disk, "source"), join(disk, "target")];
    fill(source);
    const before = usedBytes(disk);
    await copyTree(source, target);
    assert.ok(usedBytes(disk) - before >= 20 * MIB);
    check(target);
  },
);

test("copyTree says which copy failed", async (t) => {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), "berth-copy-")));
  t.after(() => rmSync(dir, { recursive: true }));
  await assert.rejects(copyTree(join(dir, "none"), join(dir, "target")), {
    code: "INTERNAL",
    reason: "SNAPSHOT_COPY_FAILED",
    message: /none.*target/,
  });
});
