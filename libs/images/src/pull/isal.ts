/**
 * gzip by Intel's ISA-L (`libisal.so.2`, Debian's libisal2, which igzip brings): twice as fast as zlib.
 *
 * Reads any number of members, checks their checksums, and passes by what follows the last one, as gzip and igzip do.
 *
 * The library is told everything through one structure of its second interface; the offsets below are those of igzip_lib.h,
 * the same on x86-64 and arm64. A library that does not do with them what is expected of it is not used (`works`).
 */
import { gzipSync } from "node:zlib";
import type { Codec } from "./codec.ts";
import { addressOf, fixedBytes, loadLibrary } from "./native-library.ts";

/** `struct inflate_state` is 87,368 bytes. */
const STATE_BYTES = 128 * 1024;
const NEXT_OUT = 0;
const AVAILABLE_OUT = 8;
const NEXT_IN = 16;
const AVAILABLE_IN = 32;
const BLOCK_STATE = 21_160;
const CRC_FLAG = 21_172;

/** `ISAL_GZIP`: headers and checksums are the library's matter. */
const GZIP = 1;
/** `ISAL_BLOCK_FINISH` */
const FINISHED = 5;
const MAGIC = [0x1f, 0x8b] as const;

const ERRORS: Readonly<Record<number, string>> = {
  [-1]: "invalid block",
  [-2]: "invalid symbol",
  [-3]: "invalid distance",
  [-4]: "invalid header",
  [-5]: "unknown method",
  [-6]: "wrong checksum",
};

interface Isal {
  init(state: Uint8Array): void;
  reset(state: Uint8Array): void;
  inflate(state: Uint8Array): number;
}

let found: { readonly isal: Isal | undefined } | undefined;

/** Undefined where the library is missing, or is not what we know. */
export function openIsal(): Codec | undefined {
  found ??= { isal: load() };
  return found.isal === undefined ? undefined : new IsalGunzip(found.isal);
}

function load(): Isal | undefined {
  const library = loadLibrary("libisal.so.2");
  if (library === undefined) return undefined;
  const isal: Isal = {
    init: library.func("void isal_inflate_init(void *)"),
    reset: library.func("void isal_inflate_reset(void *)"),
    inflate: library.func("int isal_inflate(void *)"),
  };
  return works(isal) ? isal : undefined;
}

/** Does it read what another has written, two members in three pieces, and notice a wrong checksum? */
function works(isal: Isal): boolean {
  const text = Buffer.alloc(3000, "known bytes, ");
  const [first, second] = [gzipSync(text), gzipSync(text.subarray(0, 1000))];
  const whole = Buffer.concat([first, second]);
  const spoilt = Buffer.from(whole);
  spoilt[first.length - 8]! ^= 1;
  const read = (input: Buffer): Buffer => {
    using codec = new IsalGunzip(isal);
    const output = fixedBytes(8192);
    let length = 0;
    for (const piece of [
      input.subarray(0, 11),
      input.subarray(11, first.length + 1),
      input.subarray(first.length + 1),
    ]) {
      codec.feed(Buffer.from(piece));
      while (!codec.idle) length += codec.step(output.subarray(length, length + 700));
    }
    codec.end();
    return output.subarray(0, length);
  };
  try {
    if (!read(whole).equals(Buffer.concat([text, text.subarray(0, 1000)]))) return false;
  } catch {
    return false;
  }
  try {
    read(spoilt);
    return false;
  } catch {
    return true;
  }
}

type Phase = "member" | "between" | "past";

class IsalGunzip implements Codec {
  readonly #isal: Isal;
  readonly #state = fixedBytes(STATE_BYTES);
  /** Holds what the library points to. */
  #input: Buffer | undefined;
  #phase: Phase = "member";
  #idle = true;

  constructor(isal: Isal) {
    this.#isal = isal;
    isal.init(this.#state);
    this.#state.writeUInt32LE(GZIP, CRC_FLAG);
  }

  get idle(): boolean {
    return this.#idle;
  }

  feed(chunk: Buffer): void {
    if (chunk.length === 0 || this.#phase === "past") return;
    this.#input = chunk;
    this.#state.writeBigUInt64LE(addressOf(chunk), NEXT_IN);
    this.#state.writeUInt32LE(chunk.length, AVAILABLE_IN);
    this.#idle = false;
    if (this.#phase === "between") this.#nextMember();
  }

  step(output: Buffer): number {
    const state = this.#state;
    state.writeBigUInt64LE(addressOf(output), NEXT_OUT);
    state.writeUInt32LE(output.length, AVAILABLE_OUT);
    const result = this.#isal.inflate(state);
    if (result !== 0) throw new Error(ERRORS[result] ?? `error ${result}`);
    const left = state.readUInt32LE(AVAILABLE_OUT);
    if (state.readUInt32LE(BLOCK_STATE) === FINISHED) {
      this.#phase = "between";
      if (this.#left() === 0) this.#rest();
      else this.#nextMember();
    } else if (this.#left() === 0 && left > 0) this.#rest();
    return output.length - left;
  }

  end(): void {
    if (this.#phase === "member") throw new Error("unexpected end of data");
  }

  [Symbol.dispose](): void {
    this.#rest();
    this.#phase = "past";
  }

  /** Another member, or what archives are padded with. */
  #nextMember(): void {
    const input = this.#input!;
    const at = input.length - this.#left();
    if (input[at] !== MAGIC[0] || (at + 1 < input.length && input[at + 1] !== MAGIC[1])) {
      this.#phase = "past";
      this.#rest();
      return;
    }
    this.#isal.reset(this.#state);
    this.#state.writeUInt32LE(GZIP, CRC_FLAG);
    this.#phase = "member";
  }

  #left(): number {
    return this.#state.readUInt32LE(AVAILABLE_IN);
  }

  #rest(): void {
    this.#idle = true;
    this.#input = undefined;
  }
}
