/** Waits until an assertion holds; fails with its last error after ten seconds. */
import { setTimeout as delay } from "node:timers/promises";

export async function until(assertion: () => Promise<void> | void): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  for (;;) {
    try {
      return await assertion();
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await delay(10);
    }
  }
}
