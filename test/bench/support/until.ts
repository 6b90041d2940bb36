/** Waiting for what another process does, seen by asking: a fixed, short pause, which bounds the error of the measurement. */
import { setTimeout as delay } from "node:timers/promises";
import { StatusError } from "@berth/base";

const PAUSE_MS = 5;

/** Asks until there are `wanted`. @throws DEADLINE_EXCEEDED naming what, and how many there were. */
export async function untilCount(
  what: string,
  wanted: number,
  ask: () => Promise<number>,
  timeoutMs: number,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const count = await ask();
    if (count >= wanted) return;
    if (performance.now() > deadline) {
      throw new StatusError("DEADLINE_EXCEEDED", `${what}: ${count} of ${wanted} within ${timeoutMs / 1_000} s`);
    }
    await delay(PAUSE_MS);
  }
}
