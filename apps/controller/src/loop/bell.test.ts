import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { ManualClock } from "@berth/base";
import { Bell } from "./bell.ts";

void test("Bell.wait returns at a ring, after its time and when the signal fires, and leaves nothing behind", async () => {
  const clock = new ManualClock();
  const bell = new Bell();
  const abort = new AbortController();
  const wait = (): Promise<void> => bell.wait(clock, 1_000, abort.signal);
  bell.ring();
  bell.ring();
  await wait();
  const rung = wait();
  assert.equal(clock.sleeping, 1, "two rings while nobody waited were one");
  bell.ring();
  await rung;
  const elapsed = wait();
  clock.advance(1_000);
  await elapsed;
  assert.deepEqual([clock.sleeping, getEventListeners(abort.signal, "abort").length], [0, 0]);
  const ended = wait();
  abort.abort();
  await ended;
  await wait();
  assert.equal(clock.sleeping, 0);
});
