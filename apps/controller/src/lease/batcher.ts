/**
 * Gathers lease requests while a batch is being written, so that a thousand agents cost a few transactions. At most one
 * request of each node is in a batch.
 */
import type { LeaseReply } from "@berth/proto";
import type { LeaseRenewal } from "@berth/store";

interface Waiting {
  readonly renewal: LeaseRenewal;
  readonly resolve: (reply: LeaseReply) => void;
  readonly reject: (error: unknown) => void;
}

export class LeaseBatcher {
  readonly #write: (renewals: readonly LeaseRenewal[]) => Promise<readonly LeaseReply[]>;
  readonly #maxBatch: number;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  constructor(write: (renewals: readonly LeaseRenewal[]) => Promise<readonly LeaseReply[]>, maxBatch = 500) {
    this.#write = write;
    this.#maxBatch = maxBatch;
  }

  renew(renewal: LeaseRenewal): Promise<LeaseReply> {
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
    while (this.#waiting.length > 0) await this.#writeOne(this.#take());
    this.#running = undefined;
  }

  #take(): Waiting[] {
    const batch: Waiting[] = [];
    const left: Waiting[] = [];
    const names = new Set<string>();
    for (const each of this.#waiting) {
      const fits = batch.length < this.#maxBatch && !names.has(each.renewal.name);
      (fits ? batch : left).push(each);
      names.add(each.renewal.name);
    }
    this.#waiting = left;
    return batch;
  }

  async #writeOne(batch: readonly Waiting[]): Promise<void> {
    try {
      const replies = await this.#write(batch.map((each) => each.renewal));
      for (const [index, each] of batch.entries()) each.resolve(replies[index]!);
    } catch (error) {
      for (const each of batch) each.reject(error);
    }
  }
}
