/** Long work on the event loop in slices: between two of them everybody else gets a turn (A4). */
import { setImmediate as nextTurn } from "node:timers/promises";
import { throwIfAborted } from "@berth/base";

/** Items between two looks at the clock. */
const STRIDE = 16;

export class Slices {
  readonly #sliceMs: number;
  readonly #signal: AbortSignal | undefined;
  #sinceMs = performance.now();
  #busyMs = 0;
  #items = 0;

  constructor(sliceMs: number, signal?: AbortSignal) {
    this.#sliceMs = sliceMs;
    this.#signal = signal;
  }

  /** Time spent, without pauses and rests. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** To be asked for each item; is it time to `pause`? */
  get due(): boolean {
    this.#items += 1;
    return this.#items % STRIDE === 0 && performance.now() - this.#sinceMs >= this.#sliceMs;
  }

  async pause(): Promise<void> {
    this.rest();
    await nextTurn();
    throwIfAborted(this.#signal);
    this.begin();
  }

  /** Before and after a wait that does not count. */
  rest(): void {
    this.#busyMs += performance.now() - this.#sinceMs;
  }

  begin(): void {
    this.#sinceMs = performance.now();
  }
}
