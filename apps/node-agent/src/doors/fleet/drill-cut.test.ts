/** The end of a drill is the node's own: on record for whoever comes after, and of this boot only. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DrillOrderSchema } from "@berth/proto";
import { scratchDir } from "@berth/testkit";
import { DrillCut } from "./drill-cut.ts";

const order = (durationMs: number) => create(DrillOrderSchema, { drill: "d", durationMs: BigInt(durationMs) });

void test("an agent that comes after stays cut off until the end, and not in another boot", (t) => {
  const scratch = scratchDir("berth-drill");
  t.after(() => scratch[Symbol.dispose]());
  const file = join(scratch.dir, "root", "drill.json");
  let now = 1_000;
  const cut = (bootId = "boot") => new DrillCut({ file, boottimeMs: () => now, bootId });
  assert.equal(cut().remainingMs(), 0);
  assert.match(cut().take(order(600_001)).refused, /at most 600 s/);
  assert.equal(cut().take(order(30_000)).refused, "");
  now += 10_000;
  assert.equal(cut().remainingMs(), 20_000);
  assert.match(cut().take(order(30_000)).refused, /another drill/);
  assert.equal(cut("after a reboot").remainingMs(), 0);
  now += 20_000;
  assert.equal(cut().remainingMs(), 0);
  writeFileSync(file, "{");
  assert.equal(cut().remainingMs(), 0);
});
