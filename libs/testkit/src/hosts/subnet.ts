/** Which addresses this machine already uses, and a network that it does not. IPv4 only. */
import { StatusError } from "@berth/base";

/** An IPv4 network as first and last address. */
interface Range {
  readonly first: number;
  readonly last: number;
}

/** The fleets' networks come out of this range, one /24 each: 10.213.0.0/16. */
const POOL_PREFIX = "10.213";
const POOL_SIZE = 256;

/** Reads "a.b.c.d" or "a.b.c.d/n"; undefined for anything else (IPv6, "default"). */
export function parseRange(text: string): Range | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)(?:\/(\d+))?$/.exec(text);
  if (match === null) return undefined;
  const [a = 0, b = 0, c = 0, d = 0] = match.slice(1, 5).map(Number);
  const bits = match[5] === undefined ? 32 : Number(match[5]);
  const size = 2 ** (32 - bits);
  const address = a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d;
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

/**
 * A /24 of the pool that overlaps none of the used networks, as its first three numbers ("10.213.7").
 * The search begins at a place given by `seed`, so that fleets which start at once seldom want the same.
 */
export function freeNetwork(used: readonly string[], seed: number): string {
  const ranges = used.map(parseRange).filter((range) => range !== undefined);
  for (let step = 0; step < POOL_SIZE; step += 1) {
    const prefix = `${POOL_PREFIX}.${(seed + step) % POOL_SIZE}`;
    const wanted = parseRange(`${prefix}.0/24`);
    if (wanted !== undefined && !ranges.some((r) => r.first <= wanted.last && wanted.first <= r.last)) return prefix;
  }
  throw new StatusError("RESOURCE_EXHAUSTED", `every network of ${POOL_PREFIX}.0.0/16 is in use on this machine`);
}
