/**
 * How many layers are worked on at once, and whose turn is next.
 *
 * A slot is one layer in a worker: fetched, extracted, or both. What is fair:
 *  - Some slots take only small layers, on the host (of registries) as on the whole agent: a 5 MB image does not wait until
 *    a layer of a 10 GB one is through.
 *  - One pull takes only a part of the slots for large layers, so that another with large ones gets in.
 *  - Of those who wait, the pull that holds the fewest slots goes first; then the one with the fewest bytes to go; within a
 *    pull the lowest layer, which is what the others' commits wait for.
 */
import { abortReason, throwIfAborted } from "@berth/base";

export interface SlotsConfig {
  /** On the whole agent. */
  readonly total: number;
  /** With one registry. */
  readonly perHost: number;
  /** Large layers of one pull. */
  readonly largePerPull: number;
  /** The largest layer that counts as small. */
  readonly smallBytes: number;
}

/** What one pull holds and waits for. */
export interface PullShare {
  held: number;
  heldLarge: number;
  /** Of the layers that wait. */
  waitingBytes: number;
  /** Of the layers that have turned out to be missing. */
  missingBytes: number;
}

export interface SlotRequest {
  readonly share: PullShare;
  /** The registry that bytes come from; undefined where none come. */
  readonly host?: string | undefined;
  readonly sizeBytes: number;
  /** The layer's place in its image. */
  readonly index: number;
}

interface Waiter extends SlotRequest {
  readonly wake: () => void;
}

interface Count {
  all: number;
  large: number;
}

export function newShare(): PullShare {
  return { held: 0, heldLarge: 0, waitingBytes: 0, missingBytes: 0 };
}

export function defaultSlots(processors: number): SlotsConfig {
  const total = Math.min(Math.max(5, processors + 1), 16);
  return { total, perHost: total - 1, largePerPull: Math.max(2, total - 3), smallBytes: 32 * 1024 * 1024 };
}

export class LayerSlots {
  readonly #config: SlotsConfig;
  readonly #agent: Count = { all: 0, large: 0 };
  readonly #hosts = new Map<string, Count>();
  readonly #waiting: Waiter[] = [];

  constructor(config: SlotsConfig) {
    this.#config = config;
  }

  /** Takes a slot; the disposable gives it back, once. */
  async acquire(request: SlotRequest, signal?: AbortSignal): Promise<Disposable> {
    throwIfAborted(signal);
    if (this.#admits(request)) this.#take(request);
    else await this.#queue(request, signal);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#count(request, -1);
        this.#serve();
      },
    };
  }

  #admits({ share, host, sizeBytes }: SlotRequest): boolean {
    const { total, perHost, largePerPull } = this.#config;
    const onHost = host === undefined ? undefined : this.#hosts.get(host);
    if (this.#agent.all >= total || (onHost?.all ?? 0) >= perHost) return false;
    if (!this.#isLarge(sizeBytes)) return true;
    // One slot is left for small layers, unless there is but one.
    if (this.#agent.large >= Math.max(1, total - 1) || (onHost?.large ?? 0) >= Math.max(1, perHost - 1)) return false;
    return share.heldLarge < largePerPull;
  }

  #take(request: SlotRequest): void {
    this.#count(request, 1);
  }

  #count({ share, host, sizeBytes }: SlotRequest, by: 1 | -1): void {
    const large = this.#isLarge(sizeBytes) ? by : 0;
    const counts = [this.#agent, ...(host === undefined ? [] : [this.#host(host)])];
    for (const count of counts) {
      count.all += by;
      count.large += large;
    }
    share.held += by;
    share.heldLarge += large;
    if (host !== undefined && this.#host(host).all === 0) this.#hosts.delete(host);
  }

  #host(host: string): Count {
    let count = this.#hosts.get(host);
    if (count === undefined) this.#hosts.set(host, (count = { all: 0, large: 0 }));
    return count;
  }

  #isLarge(sizeBytes: number): boolean {
    return sizeBytes > this.#config.smallBytes;
  }

  #serve(): void {
    for (;;) {
      const next = this.#waiting.filter((waiter) => this.#admits(waiter)).sort(byTurn)[0];
      if (next === undefined) return;
      this.#leave(next);
      this.#take(next);
      next.wake();
    }
  }

  #leave(waiter: Waiter): void {
    this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
    waiter.share.waitingBytes -= waiter.sizeBytes;
  }

  #queue(request: SlotRequest, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = {
      ...request,
      wake: () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      },
    };
    const onAbort = (): void => {
      this.#leave(waiter);
      reject(abortReason(signal!));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.push(waiter);
    request.share.waitingBytes += request.sizeBytes;
    return promise;
  }
}

function byTurn(a: Waiter, b: Waiter): number {
  if (a.share === b.share) return a.index - b.index;
  return a.share.held - b.share.held || a.share.waitingBytes - b.share.waitingBytes;
}
