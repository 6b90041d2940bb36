/** Waiting in tests for something that has no event. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";

export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  const end = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > end) assert.fail(`not within ${withinMs} ms: ${what}`);
    await delay(20);
  }
}
