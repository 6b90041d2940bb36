/** What a simulated node's stopper does to containers that outlived the simulator, as the real one does to real containers. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { scratchDir } from "@berth/testkit";
import { PretendStopper } from "./pretend-stopper.ts";

const BOOT = "boot-1";

function lab(t: TestContext) {
  const scratch = scratchDir("pretend-stopper");
  t.after(() => scratch[Symbol.dispose]());
  const { dir } = scratch;
  let nowMs = 100_000;
  const open = (bootId = BOOT) => {
    const stopped: [string, number][] = [];
    const deps = { boottimeMs: () => nowMs, bootId, stop: (key: string, agoMs: number) => stopped.push([key, agoMs]) };
    const stopper = new PretendStopper(deps, join(dir, "stoppers", "sim-0001"));
    t.after(() => stopper[Symbol.dispose]());
    return { stopper, stopped };
  };
  return { open, passMs: (ms: number) => (nowMs += ms) };
}

const entry = (key: string) => ({ key, cgroups: [], freezer: undefined, initPidFile: "", signal: 15, graceMs: 0 });

test("PretendStopper stops nothing when the agent comes again within its lease", async (t) => {
  const { open, passMs } = lab(t);
  const { stopper: before } = open();
  before.arm(110_000);
  await before.list(entry("a"));
  before.arm(130_000);
  passMs(20_000); // past the first deadline, not the second
  const { stopper, stopped } = open();
  stopper.takeUp("a");
  assert.deepEqual(stopped, []);
  assert.equal(stopper.mark("a"), undefined);
  assert.equal(stopper.deadline(), 130_000);
});

test("PretendStopper ends as of the deadline what was due while nobody was there", async (t) => {
  const { open, passMs } = lab(t);
  const { stopper: before } = open();
  before.arm(110_000);
  await before.list(entry("a"));
  passMs(60_000);
  const { stopper, stopped } = open();
  stopper.takeUp("a");
  assert.deepEqual(stopped, [["a", 50_000]]);
  assert.deepEqual(stopper.mark("a"), { firedBoottimeMs: 110_000, deadlineBoottimeMs: 110_000 });
});

test("PretendStopper takes the deadline of another boot for passed", async (t) => {
  const { open } = lab(t);
  const { stopper: before } = open();
  before.arm(110_000);
  await before.list(entry("a"));
  const { stopper, stopped } = open("boot-2");
  stopper.takeUp("a");
  assert.deepEqual(stopped, [["a", 0]]);
  assert.equal(stopper.deadline(), 0);
});
