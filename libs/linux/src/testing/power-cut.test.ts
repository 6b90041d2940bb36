import assert from "node:assert/strict";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mounts } from "../mountinfo.ts";
import { syncfs } from "../sync.ts";
import { livePowerCutDisk, powerCutDisk } from "./power-cut.ts";
import { withoutRoot } from "./scratch.ts";

test("powerCutDisk keeps what syncfs put on disk and loses what came after", { skip: withoutRoot }, async (t) => {
  const disk = powerCutDisk(t);
  writeFileSync(join(disk.path, "before"), "kept");
  const fd = openSync(disk.path, "r");
  await syncfs(fd);
  closeSync(fd);
  writeFileSync(join(disk.path, "after"), "lost");
  disk.cut();
  assert.equal(readFileSync(join(disk.path, "before"), "utf8"), "kept");
  assert.equal(existsSync(join(disk.path, "after")), false);
  writeFileSync(join(disk.path, "again"), "");
  assert.equal(mounts().filter(({ target }) => target === disk.path).length, 1);
});

for (const kind of ["ext4", "xfs"] as const) {
  test(`livePowerCutDisk of ${kind} fails what is written after the cut`, { skip: withoutRoot }, async () => {
    await using disk = livePowerCutDisk(kind);
    const fd = openSync(join(disk.path, "synced"), "w");
    writeFileSync(fd, "kept");
    fsyncSync(fd);
    writeFileSync(join(disk.path, "unsynced"), "lost");
    disk.shutDown();
    assert.throws(() => {
      writeFileSync(fd, " and more");
      fsyncSync(fd);
    }, /EIO|ESHUTDOWN/);
    closeSync(fd);
    await disk.remount();
    assert.equal(readFileSync(join(disk.path, "synced"), "utf8"), "kept");
    assert.equal(existsSync(join(disk.path, "unsynced")), false);
  });
}
