/** A clock whose monotonic time is the same in every thread: `performance.now()` counts from the start of its thread. */
import { systemClock, type Clock } from "@berth/base";

export const processClock: Clock = {
  nowMs: () => systemClock.nowMs(),
  monotonicMs: () => Number(process.hrtime.bigint()) / 1e6,
  sleep: (ms, signal) => systemClock.sleep(ms, signal),
};
