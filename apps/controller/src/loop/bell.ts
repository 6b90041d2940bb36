/** A bell that several may ring and one waits for; rings while nobody waits are one ring. */
import { StatusError, type Clock } from "@berth/base";

/** One for all: making an error costs more than the rest of a wait. Nobody sees it. */
const OVER = new StatusError("CANCELLED", "the wait is over");

export class Bell {
  #rung = Promise.withResolvers<void>();

  ring(): void {
    this.#rung.resolve();
  }

  /** Returns at the next ring (or the one since the last wait), after `withinMs`, or when the signal fires. */
  async wait(clock: Clock, withinMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const over = new AbortController();
    const end = (): void => over.abort(OVER);
    signal.addEventListener("abort", end, { once: true });
    const elapsed = clock.sleep(Math.min(withinMs, 2 ** 31 - 1), over.signal).catch(() => undefined);
    await Promise.race([this.#rung.promise, elapsed]);
    signal.removeEventListener("abort", end);
    end();
    this.#rung = Promise.withResolvers<void>();
  }
}
