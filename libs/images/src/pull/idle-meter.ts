/** How much of the time this thread idled while it waited for a source: a busy thread gains nothing from a faster one. */
import { performance } from "node:perf_hooks";

export class IdleMeter {
  #idleMs = 0;
  #sinceMs = performance.now();

  /** The share of the time since it was taken last. */
  take(): number {
    const nowMs = performance.now();
    const share = this.#idleMs / Math.max(1, nowMs - this.#sinceMs);
    this.#idleMs = 0;
    this.#sinceMs = nowMs;
    return share;
  }

  async *watch<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
    let before = performance.eventLoopUtilization();
    for await (const piece of source) {
      this.#idleMs += performance.eventLoopUtilization(before).idle;
      yield piece;
      before = performance.eventLoopUtilization();
    }
  }
}
