/** Waiting for what other threads and the disk do, in tests: looks again each turn of the event loop, with a deadline. */
import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";

export async function until(condition: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await condition())) {
    assert.ok(performance.now() < endMs, `not so within ${withinMs} ms: ${condition.toString()}`);
    await turn();
  }
}
