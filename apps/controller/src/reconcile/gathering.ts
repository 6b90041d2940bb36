/**
 * How long a look at a workload waits for more changes of it. Changes come in bursts, for each of its tasks moves by itself, and
 * one look serves many. A look at a large workload takes long, so it waits longer for more of them: a thousand tasks that start
 * cost a few looks a second, whatever the machine does beside, and a small workload is looked at nearly at once.
 */
const LEAST_MS = 10;
const MOST_MS = 500;
/** Of the time that the last look took. */
const TIMES = 4;
/** For each task that was looked at. */
const TASK_MS = 0.3;

export class Gathering {
  /** Only those that have to wait longer than the least. */
  readonly #waits = new Map<string, number>();

  waitMs(key: string): number {
    return this.#waits.get(key) ?? LEAST_MS;
  }

  took(key: string, lookMs: number, tasks: number): void {
    const waitMs = Math.min(MOST_MS, Math.max(lookMs * TIMES, tasks * TASK_MS));
    if (waitMs > LEAST_MS) this.#waits.set(key, waitMs);
    else this.#waits.delete(key);
  }

  forget(key: string): void {
    this.#waits.delete(key);
  }
}
