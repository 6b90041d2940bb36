import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratchDir } from "@berth/testkit/servers";
import { isUsed, prunePast } from "./prune.ts";
import { VersionsFolder } from "./versions-folder.ts";

void test("prunePast keeps the version before, what never ran, and what a process runs from; the rest is removed", async () => {
  using scratch = scratchDir("berth-prune");
  const folder = new VersionsFolder(scratch.dir);
  mkdirSync(join(scratch.dir, "upgrade"));
  for (const version of ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0"])
    mkdirSync(folder.tree(version), { recursive: true });
  symlinkSync("versions/0.5.0", join(scratch.dir, "current"));
  for (const version of ["0.1.0", "0.2.0", "0.3.0"]) folder.pass(version);
  const script = join(folder.tree("0.2.0"), "controller.sh");
  writeFileSync(script, "echo up; read -r _\n");
  const controller = spawn("sh", [script], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    await once(controller.stdout, "data");
    assert.deepEqual(await prunePast(folder, { from: "0.4.0", to: "0.5.0" }), ["0.1.0", "0.3.0"]);
    assert.deepEqual(readdirSync(join(scratch.dir, "versions")), ["0.2.0", "0.4.0", "0.5.0", "0.6.0"]);
  } finally {
    controller.stdin.end();
    await once(controller, "close");
  }
  assert.equal(isUsed(folder.tree("0.2.0")), false);
  assert.deepEqual(await prunePast(folder, { from: "0.4.0", to: "0.5.0" }), ["0.2.0"]);
  assert.deepEqual(folder.past(), ["0.4.0"]);
});
