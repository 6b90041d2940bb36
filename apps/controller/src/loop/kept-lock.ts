/**
 * The advisory lock of work that one controller does at a time. It is taken when it is free, kept, and taken again when the connection
 * that held it was lost; another controller has it meanwhile. Given back when it is disposed, after the loop that works under it.
 */
import type { HeldLock, LockKey, Store } from "@berth/store";

export class KeptLock implements AsyncDisposable {
  readonly #locks: Store["locks"];
  readonly #key: LockKey;
  #lock: HeldLock | undefined;

  constructor({ locks }: Pick<Store, "locks">, key: LockKey) {
    this.#locks = locks;
    this.#key = key;
  }

  /** Undefined: the work is another controller's now. */
  async held(): Promise<HeldLock | undefined> {
    if (this.#lock === undefined || this.#lock.signal.aborted) this.#lock = await this.#locks.tryAcquire(this.#key);
    return this.#lock;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock?.[Symbol.asyncDispose]();
  }
}
