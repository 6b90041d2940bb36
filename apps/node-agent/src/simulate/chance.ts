/** What a profile leaves to chance, drawn from its seed and from names: the same again in every run, and after a restart. */
import type { SimulationRange } from "@berth/config";

export class Chance {
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** From 0 up to 1, by what is asked about: `happens(0.1, "pull", image, node)`. */
  of(...about: readonly (string | number)[]): number {
    let hash = (this.#seed ^ 0x811c9dc5) >>> 0;
    for (const part of about) {
      const text = String(part);
      for (let index = 0; index < text.length; index += 1) {
        hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0;
      }
      hash = Math.imul(hash ^ 0x1f, 0x01000193) >>> 0;
    }
    return mixed(hash) / 2 ** 32;
  }

  happens(share: number, ...about: readonly (string | number)[]): boolean {
    return share > 0 && this.of(...about) < share;
  }

  /** Evenly by the logarithm: as often from 10 to 100 as from 100 to 1,000. */
  within({ min, max }: SimulationRange, ...about: readonly (string | number)[]): number {
    if (min === max) return min;
    const [low, high] = [Math.max(min, 1), Math.max(max, 1)];
    return Math.min(max, Math.max(min, Math.round(low * (high / low) ** this.of(...about))));
  }
}

/** FNV leaves the high bits of similar texts alike. */
function mixed(hash: number): number {
  let value = hash;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
