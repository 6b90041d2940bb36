import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ManualClock, silentLogger } from "@berth/base";
import type { Bus } from "@berth/bus";
import { AssignmentsReplySchema } from "@berth/proto";
import type { Origin } from "../../engine/intent.ts";
import { AssignmentSync } from "./assignment-sync.ts";

const at = (revision: number, storeEpoch = "s"): Origin => ({ storeEpoch, revision });

/** A sync whose sets are counted; the first, on connecting, has been taken. */
async function lab() {
  const clock = new ManualClock();
  let sets = 0;
  const bus = {
    connected: async () => {},
    onState: () => ({ [Symbol.dispose]() {} }),
    request: async () => create(AssignmentsReplySchema, { storeEpoch: "s" }),
  } as unknown as Bus;
  const applySet = async (): Promise<"applied"> => {
    sets += 1;
    return "applied";
  };
  const deps = { bus, node: "a", assignments: { applySet }, clock, logger: silentLogger, random: () => 0 };
  const sync = new AssignmentSync(deps);
  const abort = new AbortController();
  const running = sync.run(abort.signal, { everyMs: 100_000 });
  await settle();
  return { clock, sync, asked: () => sets - 1, stop: async () => (abort.abort(), await running) };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

void test("AssignmentSync asks at once for the set of another store, and from time to time without a reason", async () => {
  const { sync, clock, asked, stop } = await lab();
  sync.heard(at(0), at(0), 3_000);
  clock.advance(99_999);
  await settle();
  assert.equal(asked(), 0);
  clock.advance(1);
  await settle();
  assert.equal(asked(), 1);
  sync.heard(at(1, "other"), at(7), 3_000);
  await settle();
  assert.equal(asked(), 2);
  await stop();
});

void test("AssignmentSync waits for the job of a revision until the next answer, and no longer", async () => {
  const { sync, asked, stop } = await lab();
  sync.heard(at(5), at(4), 3_000);
  await settle();
  assert.equal(asked(), 0, "it may be on its way");
  assert.equal(sync.isBehind(at(4)), true);
  sync.heard(at(6), at(4), 3_000);
  await settle();
  assert.equal(asked(), 1, "that of 5 is late, whatever has come since");
  await stop();
});

void test("AssignmentSync confirms what jobs have brought once, later, for all of it", async () => {
  const { sync, clock, asked, stop } = await lab();
  sync.took(at(5));
  sync.heard(at(5), at(4), 3_000);
  clock.advance(6_000);
  sync.took(at(9));
  sync.heard(at(9), at(4), 3_000);
  await settle();
  assert.equal(asked(), 0);
  clock.advance(4_000);
  await settle();
  assert.equal(asked(), 1);
  clock.advance(50_000);
  sync.heard(at(9), at(9), 3_000);
  await settle();
  assert.deepEqual([asked(), sync.isBehind(at(9))], [1, false]);
  await stop();
});
