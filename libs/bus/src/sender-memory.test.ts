import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "@berth/base";
import { SenderMemory } from "./sender-memory.ts";

void test("SenderMemory keeps what is used, however long, and forgets what is not", () => {
  const clock = new ManualClock();
  const memory = new SenderMemory<number>({ clock, keepMs: 1_000 });
  memory.set("used", 1);
  memory.set("gone", 2);
  memory.set("deleted", 3);
  memory.delete("deleted");
  for (let step = 1; step <= 10; step += 1) {
    clock.advance(600);
    assert.equal(memory.get("used"), 1, `after ${step * 600} ms`);
  }
  assert.deepEqual([memory.get("gone"), memory.get("deleted"), memory.size], [undefined, undefined, 1]);
});

void test("SenderMemory keeps an entry for `keepMs` at the least, and gives what was set last", () => {
  const clock = new ManualClock();
  const memory = new SenderMemory<number>({ clock, keepMs: 1_000 });
  clock.advance(999);
  memory.set("a", 1);
  clock.advance(1_000);
  assert.equal(memory.get("a"), 1);
  memory.set("a", 2);
  clock.advance(1_000);
  assert.equal(memory.get("a"), 2);
  clock.advance(2_000);
  assert.deepEqual([memory.get("a"), memory.size], [undefined, 0]);
});
