/**
 * Gathers lease requests, so that a thousand agents cost a few transactions a second: the first one after a while is written at
 * once, those that follow it within `gatherMs` together. At most one request of each node is in a batch.
 */
import { systemClock } from "@berth/base";
import type { LeaseReply } from "@berth/proto";

interface Waiting<Ask> {
  readonly renewal: Ask;
  readonly resolve: (reply: LeaseReply) => void;
  readonly reject: (error: unknown) => void;
}

export interface BatcherOptions {
  readonly maxBatch?: number;
  /** From the beginning of a batch to that of the next; asked before each. Default 0: as soon as the one before is written. */
  readonly gatherMs?: () => number;
}

export class LeaseBatcher<Ask extends { readonly name: string }> {
  readonly #write: (renewals: readonly Ask[]) => Promise<readonly LeaseReply[]>;
  readonly #maxBatch: number;
  readonly #gatherMs: () => number;
  #waiting: Waiting<Ask>[] = [];
  #running: Promise<void> | undefined;
  #lastBeganMs = Number.NEGATIVE_INFINITY;

  constructor(write: (renewals: readonly Ask[]) => Promise<readonly LeaseReply[]>, options: BatcherOptions = {}) {
    this.#write = write;
    this.#maxBatch = options.maxBatch ?? 500;
    this.#gatherMs = options.gatherMs ?? (() => 0);
  }

  renew(renewal: Ask): Promise<LeaseReply> {
    const { promise, resolve, reject } = Promise.withResolvers<LeaseReply>();
    this.#waiting.push({ renewal, resolve, reject });
    this.#running ??= this.#run();
    return promise;
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    // What arrives in the same turn goes into the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const leftMs = this.#lastBeganMs + this.#gatherMs() - performance.now();
      if (leftMs > 0 && this.#waiting.length < this.#maxBatch) await systemClock.sleep(leftMs);
      this.#lastBeganMs = performance.now();
      await this.#writeOne(this.#take());
    }
    this.#running = undefined;
  }

  #take(): Waiting<Ask>[] {
    const batch: Waiting<Ask>[] = [];
    const left: Waiting<Ask>[] = [];
    const names = new Set<string>();
    for (const each of this.#waiting) {
      const fits = batch.length < this.#maxBatch && !names.has(each.renewal.name);
      (fits ? batch : left).push(each);
      names.add(each.renewal.name);
    }
    this.#waiting = left;
    return batch;
  }

  async #writeOne(batch: readonly Waiting<Ask>[]): Promise<void> {
    try {
      const replies = await this.#write(batch.map((each) => each.renewal));
      for (const [index, each] of batch.entries()) each.resolve(replies[index]!);
    } catch (error) {
      for (const each of batch) each.reject(error);
    }
  }
}
