import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "@berth/base";
import { watchPace } from "./stall.ts";

const chunk = (size: number): Uint8Array => new Uint8Array(size);

async function ticks(clock: ManualClock, count: number): Promise<void> {
  for (let tick = 0; tick < count; tick += 1) {
    clock.advance(250);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("watchPace reports a source that sends too little in a window", async () => {
  const clock = new ManualClock();
  const { promise: broken, reject } = Promise.withResolvers<never>();
  async function* source(): AsyncGenerator<Uint8Array> {
    yield chunk(5);
    await broken;
  }
  let stalledBytes = -1;
  const onStall = (bytes: number): void => {
    stalledBytes = bytes;
    reject(new Error("stalled"));
  };
  const reading = (async () => {
    for await (const _ of watchPace(source(), { clock, windowMs: 1000, minBytes: 10, onStall })) continue;
  })();
  const failed = assert.rejects(reading, /stalled/);
  await ticks(clock, 4);
  await failed;
  assert.equal(stalledBytes, 5);
});

test("watchPace does not blame the source for a slow reader", async () => {
  const clock = new ManualClock();
  async function* source(): AsyncGenerator<Uint8Array> {
    yield chunk(1);
    yield chunk(1);
  }
  let sizes = 0;
  const onStall = (): void => assert.fail("blamed");
  for await (const one of watchPace(source(), { clock, windowMs: 1000, minBytes: 10, onStall })) {
    sizes += one.length;
    await ticks(clock, 8);
  }
  assert.equal(sizes, 2);
  assert.equal(clock.sleeping, 0);
});
