/**
 * Keeps a place that was reached without sending anything: a while later, and at the end, so that a busy namespace of which a
 * webhook wants little costs few writes. Whoever takes over chooses from the same events again.
 */
import type { Position } from "@berth/store";

export interface Place {
  readonly position: Position;
  readonly passedUntil: Date;
}

export class Keeper implements AsyncDisposable {
  readonly #everyMs: number;
  readonly #keep: (place: Place) => Promise<void>;
  #place: Place | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(everyMs: number, keep: (place: Place) => Promise<void>) {
    this.#everyMs = everyMs;
    this.#keep = keep;
  }

  /** From here on, and until the next place, nothing is written. @throws what keeping threw */
  async rest(): Promise<void> {
    await this.#writing;
  }

  async passed(place: Place): Promise<void> {
    this.#place = place;
    this.#timer ??= setTimeout(() => this.#begin(), this.#everyMs);
    await this.#writing;
  }

  #begin(): void {
    this.#timer = undefined;
    const place = this.#place;
    this.#place = undefined;
    if (place === undefined) return;
    this.#writing = this.#keep(place);
    this.#writing.catch(() => undefined);
  }

  /** A place that cannot be kept any more is reached again. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#begin();
    await this.#writing.catch(() => undefined);
  }
}
