import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "@berth/base";
import { startIdleTrim } from "./idle-trim.ts";

test("startIdleTrim trims after the start and once after each burst, not in its middle", async () => {
  const clock = new ManualClock();
  let work = 0;
  let trims = 0;
  await using _trimming = startIdleTrim({ activity: () => work, trim: () => (trims += 1), clock });
  const pass = async (ms: number): Promise<number> => {
    while (clock.sleeping === 0) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(ms);
    while (clock.sleeping === 0) await new Promise((resolve) => setImmediate(resolve));
    return trims;
  };
  assert.equal(await pass(2_000), 1);
  assert.equal(await pass(20_000), 1);
  work = 1;
  const busy = pass(20_000);
  work = 2;
  assert.equal(await busy, 1);
  assert.equal(await pass(20_000), 2);
  assert.equal(await pass(20_000), 2);
});
