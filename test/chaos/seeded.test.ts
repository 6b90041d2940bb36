/**
 * A sample of the chaos soak (`npm run soak -- chaos`): seeded rounds of kills, pauses, cuts, one-way loss, full disks, wiped
 * brokers and jumping clocks under live applies, with the checker of `seeded/checker.ts`. Seeds that once found a bug stay here.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "@berth/testkit/servers";
import { openLab, type Lab } from "./seeded/lab.ts";
import { printRun } from "./seeded/report.ts";
import { runSeed } from "./seeded/run.ts";

/**
 * 1: a controller that was paused while Postgres was killed had no locks for minutes, or ended (ADR 21).
 * 12: a controller whose clock jumped took a rollout for late, and rolled it back.
 * 1059: what became available while the controller's clock was ahead did not count until that time came.
 */
const SEEDS = [1, 12, 1059];

void describe("under seeded chaos", { timeout: 280_000 }, () => {
  let lab: Lab;

  before(async () => {
    lab = await openLab();
  });
  after(async () => lab?.[Symbol.asyncDispose]());

  for (const seed of SEEDS) {
    void test(`seed ${seed}: nothing is lost, doubled or changed, and all converges`, async (t) => {
      const report = await runSeed(lab, seed);
      t.diagnostic(printRun(report));
      assert.deepEqual(report.wrong, []);
    });
  }

  // 2: a task that ended between the drill's look at what was and its beginning was blamed on it.
  void test("seed 2 with drills: what controllers do by order is as harmless, and they judge it right", async (t) => {
    // One is refused while a node is silent, which the seed before may have left so.
    await eventually("all nodes are Ready", async () => (await lab.sql`select from nodes where phase <> 'Ready'`).length === 0); // prettier-ignore
    const report = await runSeed(lab, 2, { drills: true });
    t.diagnostic(printRun(report));
    assert.deepEqual([report.wrong, report.drills.length], [[], 2]);
  });
});
