import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "@berth/base";
import { defaultSlots, LayerSlots, newShare, type PullShare, type SlotRequest } from "./slots.ts";

const MB = 1_000_000;
const config = { total: 4, perHost: 3, largePerPull: 2, smallBytes: 10 * MB };

/** Asks for a slot and says whether it was had at once. */
async function ask(slots: LayerSlots, request: SlotRequest) {
  const asked = { slot: undefined as Disposable | undefined, done: Promise.resolve() };
  asked.done = slots.acquire(request).then((slot) => void (asked.slot = slot));
  await new Promise((resolve) => setImmediate(resolve));
  return asked;
}

test("LayerSlots keeps a slot for small layers while large ones fill the rest", async () => {
  const slots = new LayerSlots(config);
  const big = newShare();
  const large = (host: string, index: number, share: PullShare): SlotRequest => ({
    share,
    host,
    index,
    sizeBytes: 5000 * MB,
  });
  const first = await ask(slots, large("a", 0, big));
  const second = await ask(slots, large("a", 1, big));
  const third = await ask(slots, large("a", 2, big));
  assert.ok(first.slot && second.slot);
  assert.equal(third.slot, undefined, "one pull has but two large layers at once");
  const other = await ask(slots, large("a", 0, newShare()));
  assert.equal(other.slot, undefined, "on one host the last slot is for small layers");
  const elsewhere = await ask(slots, large("b", 0, newShare()));
  assert.ok(elsewhere.slot);
  const small = await ask(slots, { share: newShare(), host: "a", index: 0, sizeBytes: 5 * MB });
  assert.ok(small.slot);
  small.slot[Symbol.dispose]();
  first.slot[Symbol.dispose]();
  await other.done;
  assert.equal(third.slot, undefined, "the pull that holds fewer goes first");
  second.slot[Symbol.dispose]();
  await third.done;
});

test("LayerSlots serves the shorter pull first, and within a pull the lower layer", async () => {
  const slots = new LayerSlots({ ...config, total: 1, perHost: 1 });
  const held = await ask(slots, { share: newShare(), sizeBytes: 1, index: 0 });
  const order: string[] = [];
  const enter = (name: string, request: SlotRequest): Promise<void> =>
    slots.acquire(request).then((slot) => {
      order.push(name);
      slot[Symbol.dispose]();
    });
  const long = newShare();
  const short = newShare();
  const all = [
    enter("long-2", { share: long, sizeBytes: 9 * MB, index: 2 }),
    enter("long-1", { share: long, sizeBytes: 9 * MB, index: 1 }),
    enter("short-1", { share: short, sizeBytes: MB, index: 1 }),
    enter("short-0", { share: short, sizeBytes: MB, index: 0 }),
  ];
  held.slot![Symbol.dispose]();
  await Promise.all(all);
  assert.deepEqual(order, ["short-0", "short-1", "long-1", "long-2"]);
});

test("LayerSlots lets a waiter give up, and counts come back to nothing", async () => {
  const slots = new LayerSlots({ ...config, total: 2, perHost: 2 });
  const random = seededRandom(7);
  const shares = [newShare(), newShare(), newShare()];
  let running = 0;
  let most = 0;
  const jobs = Array.from({ length: 200 }, async (_, index) => {
    const abort = new AbortController();
    const share = shares[index % 3]!;
    const sizeBytes = random() < 0.5 ? MB : 50 * MB;
    const gotten = slots.acquire({ share, host: `h${index % 2}`, sizeBytes, index }, abort.signal);
    if (random() < 0.3) setImmediate(() => abort.abort());
    try {
      using _slot = await gotten;
      most = Math.max(most, (running += 1));
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    } catch (error) {
      assert.ok(abort.signal.aborted, String(error));
    }
  });
  await Promise.all(jobs);
  assert.equal(most, 2);
  for (const share of shares) assert.deepEqual(share, newShare());
});

test("defaultSlots leaves room for another registry and for small layers", () => {
  assert.deepEqual(defaultSlots(2), { total: 5, perHost: 4, largePerPull: 2, smallBytes: 32 * 1024 * 1024 });
  assert.equal(defaultSlots(64).total, 16);
});
