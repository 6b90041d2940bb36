/**
 * What is remembered of each node that sends requests, for as long as it sends: nobody has to tell of nodes that are gone.
 *
 * Entries are in two generations. What is read or set is in the young one; at the turn of a generation the old one is dropped.
 * So an entry is kept for one to two times `keepMs` since its last use, and forgetting costs nothing per entry.
 */
import { systemClock, type Clock } from "@berth/base";

export interface SenderMemoryOptions {
  /** Longer than a living node is ever silent. Default 15 minutes: leases of the largest fleets are renewed each minute. */
  readonly keepMs?: number;
  readonly clock?: Pick<Clock, "monotonicMs">;
}

const KEEP_MS = 15 * 60_000;

export class SenderMemory<Value> {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #keepMs: number;
  #young = new Map<string, Value>();
  #old = new Map<string, Value>();
  #turnedMs: number;

  constructor({ keepMs = KEEP_MS, clock = systemClock }: SenderMemoryOptions = {}) {
    this.#clock = clock;
    this.#keepMs = keepMs;
    this.#turnedMs = clock.monotonicMs();
  }

  /** How many nodes it remembers, those included that the next turn drops. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(node: string): Value | undefined {
    this.#turn();
    const young = this.#young.get(node);
    if (young !== undefined) return young;
    const old = this.#old.get(node);
    if (old !== undefined) this.set(node, old);
    return old;
  }

  set(node: string, value: Value): void {
    this.#turn();
    this.#old.delete(node);
    this.#young.set(node, value);
  }

  delete(node: string): void {
    this.#old.delete(node);
    this.#young.delete(node);
  }

  #turn(): void {
    const sinceMs = this.#clock.monotonicMs() - this.#turnedMs;
    if (sinceMs < this.#keepMs) return;
    // After two generations without any use, nothing was used in the last one.
    this.#old = sinceMs < 2 * this.#keepMs ? this.#young : new Map();
    this.#young = new Map();
    this.#turnedMs += sinceMs;
  }
}
