import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { systemClock } from "./clock.ts";
import { StatusError } from "./status-error.ts";

void test("systemClock.sleep ends after its time, or with the signal's reason, and leaves neither timer nor listener", async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === "Timeout").length;
  const before = timers();
  const abort = new AbortController();
  const { signal } = abort;
  const startMs = systemClock.monotonicMs();
  await systemClock.sleep(20, signal);
  // Timers count whole milliseconds.
  assert.ok(systemClock.monotonicMs() - startMs >= 19);
  assert.equal(getEventListeners(signal, "abort").length, 0);
  const cut = systemClock.sleep(60_000, signal);
  abort.abort(new StatusError("UNAVAILABLE", "closing"));
  await assert.rejects(cut, { code: "UNAVAILABLE", message: "closing" });
  await assert.rejects(systemClock.sleep(60_000, signal), { code: "UNAVAILABLE" });
  await assert.rejects(systemClock.sleep(60_000, AbortSignal.abort()), { code: "CANCELLED" });
  assert.equal(timers(), before);
});
