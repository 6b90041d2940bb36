/** A bell that several may ring and one waits for; rings while nobody waits are one ring. */
import { anySignal, type Clock } from "@berth/base";

export class Bell {
  #rung = Promise.withResolvers<void>();

  ring(): void {
    this.#rung.resolve();
  }

  /** Returns at the next ring (or the one since the last wait), after `withinMs`, or when the signal fires. */
  async wait(clock: Clock, withinMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const done = new AbortController();
    const elapsed = clock.sleep(Math.min(withinMs, 2 ** 31 - 1), anySignal(signal, done.signal)).catch(() => undefined);
    await Promise.race([this.#rung.promise, elapsed]);
    done.abort();
    this.#rung = Promise.withResolvers<void>();
  }
}
