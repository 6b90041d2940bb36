import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "@berth/base";
import { Bandwidth, limited, type BandwidthState } from "./bandwidth.ts";

const KIB = 1024;

async function* endless(chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (;;) yield new Uint8Array(chunkBytes);
}

interface Transfer {
  bytes: number;
  readonly done: Promise<void>;
}

function start(clock: ManualClock, state: BandwidthState, signal: AbortSignal, chunkBytes = 16 * KIB): Transfer {
  const transfer = { bytes: 0, done: Promise.resolve() };
  transfer.done = (async () => {
    for await (const chunk of limited(endless(chunkBytes), state, clock, signal)) transfer.bytes += chunk.length;
  })().catch(() => undefined);
  return transfer;
}

/** Lets time go by in small steps, each until all transfers wait again. */
async function pass(clock: ManualClock, ms: number, transfers: number): Promise<void> {
  for (let step = 0; step < ms; step += 5) {
    while (clock.sleeping < transfers) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(5);
  }
  while (clock.sleeping < transfers) await new Promise((resolve) => setImmediate(resolve));
}

test("limited keeps the rate over all transfers, and shares it evenly among them", async () => {
  const clock = new ManualClock();
  const state = new Bandwidth({ maxBytesPerSecond: 10_000 * KIB }).state("r");
  const abort = new AbortController();
  const transfers = [16, 16, 64, 256].map((kib) => start(clock, structuredClone(state), abort.signal, kib * KIB));
  await pass(clock, 10_000, transfers.length);
  const total = transfers.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(Math.abs(total / (100_000 * KIB) - 1) < 0.03, `${total} bytes in 10 s`);
  assert.ok(Math.abs(transfers[0]!.bytes / transfers[1]!.bytes - 1) < 0.05, "equal pieces, equal shares");
  assert.ok(transfers[3]!.bytes / transfers[2]!.bytes < 1.1, "larger chunks do not take more than a piece at a time");
  abort.abort();
  await Promise.all(transfers.map(({ done }) => done));
});

test("limited holds the registry's own limit within the agent's", async () => {
  const clock = new ManualClock();
  const bandwidth = new Bandwidth({ maxBytesPerSecond: 1_000_000, registries: { slow: 200_000 } });
  const abort = new AbortController();
  const slow = start(clock, bandwidth.state("slow"), abort.signal, 4 * KIB);
  const fast = start(clock, bandwidth.state("fast"), abort.signal, 4 * KIB);
  await pass(clock, 10_000, 2);
  assert.ok(Math.abs(slow.bytes / 2_000_000 - 1) < 0.05, `${slow.bytes} bytes from the slow one`);
  assert.ok(slow.bytes + fast.bytes < 10_300_000, `${slow.bytes + fast.bytes} bytes in all`);
  assert.ok(fast.bytes > 7_000_000, `${fast.bytes} bytes from the fast one`);
  abort.abort();
  await Promise.all([slow.done, fast.done]);
});

test("limited does not save up while nobody transfers, and costs nothing without a limit", async () => {
  const clock = new ManualClock();
  const bandwidth = new Bandwidth({ maxBytesPerSecond: 1_000_000 });
  clock.advance(3_600_000);
  const abort = new AbortController();
  const transfer = start(clock, bandwidth.state("r"), abort.signal);
  await pass(clock, 1_000, 1);
  assert.ok(transfer.bytes < 1_200_000, `${transfer.bytes} bytes in the first second`);
  abort.abort();
  await transfer.done;
  const source = endless(1);
  assert.equal(limited(source, new Bandwidth().state("r"), clock, undefined), source);
});
