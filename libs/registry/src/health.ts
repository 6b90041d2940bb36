/**
 * What is known of mirrors' health, shared by all clients and worker threads of the process.
 *
 * Invariants:
 *  - Lock-free on one SharedArrayBuffer, so that a session takes it along and what one thread learns all know at once.
 *  - A failure makes an endpoint be passed by for a time that doubles with each failed probe (5 s … 5 min); failures of
 *    requests that ran at the same time count once. A success forgets them all.
 *  - When the time is over one caller probes; the others pass the endpoint by until the probe has ended or taken as long.
 *  - It is a memory of hints: where it is full or raced, an endpoint is tried once too often, nothing worse.
 */
import { createHash } from "node:crypto";

const SLOTS = 512;
/** How far from its place an entry may lie. */
const REACH = 8;
const WORDS = 3;
const [KEY, FAILURES, UNTIL_MS] = [0, 1, 2];
const FIRST_SKIP_MS = 5_000;
const MAX_SKIP_MS = 300_000;

export interface Health {
  /** Endpoints that failed before; the others are 0. To be given back with the outcome. */
  readonly failures: bigint;
  /** Milliseconds of the shared clock until which it is to be passed by; in the past when it may be tried. */
  readonly untilMs: number;
}

const HEALTHY: Health = { failures: 0n, untilMs: 0 };

export class HealthMemory {
  /** Structured-cloneable; give it to another thread's `HealthMemory`. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: BigInt64Array;
  readonly #keys = new Map<string, bigint>();

  constructor(buffer = new SharedArrayBuffer(SLOTS * WORDS * 8)) {
    this.buffer = buffer;
    this.#words = new BigInt64Array(buffer);
  }

  look(endpoint: string): Health {
    const slot = this.#find(this.#key(endpoint));
    if (slot === undefined) return HEALTHY;
    const failures = Atomics.load(this.#words, slot + FAILURES);
    return failures === 0n ? HEALTHY : { failures, untilMs: Number(Atomics.load(this.#words, slot + UNTIL_MS)) };
  }

  /** Takes the right to probe an endpoint that failed, once its time is over. False when it is to be passed by. */
  claim(endpoint: string, seen: Health, nowMs: number): boolean {
    if (seen.failures === 0n) return true;
    // A time that lies too far ahead was not made by this clock.
    if (seen.untilMs > nowMs && seen.untilMs <= nowMs + MAX_SKIP_MS) return false;
    const slot = this.#find(this.#key(endpoint));
    if (slot === undefined) return true;
    const next = BigInt(Math.ceil(nowMs + skipMs(seen.failures)));
    return Atomics.compareExchange(this.#words, slot + UNTIL_MS, BigInt(seen.untilMs), next) === BigInt(seen.untilMs);
  }

  succeeded(endpoint: string): void {
    const slot = this.#find(this.#key(endpoint));
    if (slot !== undefined) Atomics.store(this.#words, slot + FAILURES, 0n);
  }

  /** @param seen what {@link look} said before the request @param atLeastMs what the endpoint asked for */
  failed(endpoint: string, seen: Health, nowMs: number, atLeastMs = 0): void {
    const slot = this.#findOrTake(this.#key(endpoint));
    const failures = seen.failures + 1n;
    // Another request's failure counts for this one too.
    if (Atomics.compareExchange(this.#words, slot + FAILURES, seen.failures, failures) !== seen.failures) return;
    const wait = Math.min(MAX_SKIP_MS, Math.max(skipMs(failures), atLeastMs));
    Atomics.store(this.#words, slot + UNTIL_MS, BigInt(Math.ceil(nowMs + wait)));
  }

  #key(endpoint: string): bigint {
    let key = this.#keys.get(endpoint);
    if (key === undefined) {
      key = createHash("sha256").update(endpoint).digest().readBigInt64BE(0) || 1n;
      this.#keys.set(endpoint, key);
    }
    return key;
  }

  #find(key: bigint): number | undefined {
    for (const slot of this.#places(key)) if (Atomics.load(this.#words, slot + KEY) === key) return slot;
    return undefined;
  }

  /** Its slot, a free one, or that of the neighbour whose memory is oldest. */
  #findOrTake(key: bigint): number {
    const found = this.#find(key);
    if (found !== undefined) return found;
    const places = this.#places(key);
    for (const slot of places) {
      const before = Atomics.compareExchange(this.#words, slot + KEY, 0n, key);
      if (before === 0n || before === key) return slot;
    }
    const age = (slot: number): bigint => Atomics.load(this.#words, slot + UNTIL_MS);
    const oldest = places.reduce((a, b) => (age(b) < age(a) ? b : a));
    Atomics.store(this.#words, oldest + KEY, key);
    Atomics.store(this.#words, oldest + FAILURES, 0n);
    return oldest;
  }

  #places(key: bigint): number[] {
    const start = Number(BigInt.asUintN(32, key)) % SLOTS;
    return Array.from({ length: REACH }, (_, step) => ((start + step) % SLOTS) * WORDS);
  }
}

function skipMs(failures: bigint): number {
  return Math.min(MAX_SKIP_MS, FIRST_SKIP_MS * 2 ** (Number(failures) - 1));
}
