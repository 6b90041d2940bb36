import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { mounts } from "../mountinfo.ts";
import { syncfs } from "../sync.ts";
import { powerCutDisk } from "./power-cut.ts";
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
