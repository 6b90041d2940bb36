/** The end of a drill is the node's own: on record for whoever comes after, and of this boot only. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratchDir } from "@berth/testkit";
import { DrillCut } from "./drill-cut.ts";

void test("an agent that comes after stays cut off until the end, and not in another boot", (t) => {
  const scratch = scratchDir("berth-drill");
  t.after(() => scratch[Symbol.dispose]());
  const file = join(scratch.dir, "root", "drill.json");
  let now = 1_000;
  const cut = (bootId = "boot") => new DrillCut({ file, boottimeMs: () => now, bootId });
  assert.equal(cut().remainingMs(), 0);
  cut().take("d", 30_000);
  now += 10_000;
  assert.equal(cut().remainingMs(), 20_000);
  assert.equal(cut("after a reboot").remainingMs(), 0);
  now += 20_000;
  assert.equal(cut().remainingMs(), 0);
  writeFileSync(file, "{");
  assert.equal(cut().remainingMs(), 0);
});
