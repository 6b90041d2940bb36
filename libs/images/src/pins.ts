/**
 * What running pulls need, so that a collection at the same time leaves it alone.
 *
 * A pull pins a key before it looks whether the thing is there. A collection asks, right before it removes something,
 * whether the key is pinned or was at any time since the collection began: its mark may be older than the image that a
 * pull has recorded meanwhile.
 */

export class Pins {
  readonly #held = new Map<string, number>();
  /** Keys pinned while collections run; one set for all of them. */
  readonly #sinceCollection = new Set<string>();
  #collections = 0;

  /** A pull's own set; see {@link PinSet}. `onAdd` hears of each key that is new to it. */
  set(onAdd?: (key: string) => void): PinSet {
    return new PinSet(this, onAdd);
  }

  take(key: string): void {
    this.#held.set(key, (this.#held.get(key) ?? 0) + 1);
    if (this.#collections > 0) this.#sinceCollection.add(key);
  }

  give(key: string): void {
    const count = (this.#held.get(key) ?? 0) - 1;
    if (count > 0) this.#held.set(key, count);
    else this.#held.delete(key);
  }

  isPinned(key: string): boolean {
    return this.#held.has(key) || this.#sinceCollection.has(key);
  }

  /** Opens the time in which releasing a pin does not yet free its key. */
  collecting(): Disposable {
    this.#collections += 1;
    for (const key of this.#held.keys()) this.#sinceCollection.add(key);
    return {
      [Symbol.dispose]: () => {
        this.#collections -= 1;
        if (this.#collections === 0) this.#sinceCollection.clear();
      },
    };
  }
}

/** The pins of one pull; all are released together. */
export class PinSet implements Disposable {
  readonly #pins: Pins;
  readonly #onAdd: ((key: string) => void) | undefined;
  readonly #keys = new Set<string>();

  constructor(pins: Pins, onAdd?: (key: string) => void) {
    this.#pins = pins;
    this.#onAdd = onAdd;
  }

  add(key: string): void {
    if (this.#keys.has(key)) return;
    this.#keys.add(key);
    this.#pins.take(key);
    this.#onAdd?.(key);
  }

  keys(): ReadonlySet<string> {
    return new Set(this.#keys);
  }

  [Symbol.dispose](): void {
    for (const key of this.#keys) this.#pins.give(key);
    this.#keys.clear();
  }
}

export function blobPin(namespace: string, digest: string): string {
  return `blob ${namespace} ${digest}`;
}

export function snapshotPin(namespace: string, snapshotter: string, chainId: string): string {
  return `snapshot ${snapshotter} ${namespace} ${chainId}`;
}
