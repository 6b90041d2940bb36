/** zstd by its own library (`libzstd.so.1`, which every Debian has): many frames, skippable ones passed by, checksums checked. */
import type { Codec } from "./codec.ts";
import { addressOf, fixedBytes, loadLibrary } from "./native-library.ts";

/** `ZSTD_inBuffer` and `ZSTD_outBuffer`: pointer, size, position. */
const SIZE = 8;
const POSITION = 16;
const BUFFER_BYTES = 24;

interface Libzstd {
  create(): unknown;
  free(stream: unknown): number | bigint;
  decompress(stream: unknown, output: Uint8Array, input: Uint8Array): number | bigint;
  isError(code: number | bigint): number;
  errorName(code: number | bigint): string;
}

let found: { readonly library: Libzstd | undefined } | undefined;

/** Undefined where the library is missing. */
export function openLibzstd(): Codec | undefined {
  found ??= { library: load() };
  return found.library === undefined ? undefined : new ZstdDecompress(found.library);
}

function load(): Libzstd | undefined {
  const library = loadLibrary("libzstd.so.1");
  if (library === undefined) return undefined;
  return {
    create: library.func("void *ZSTD_createDStream()"),
    free: library.func("size_t ZSTD_freeDStream(void *)"),
    decompress: library.func("size_t ZSTD_decompressStream(void *, void *, void *)"),
    isError: library.func("unsigned int ZSTD_isError(size_t)"),
    errorName: library.func("const char *ZSTD_getErrorName(size_t)"),
  };
}

class ZstdDecompress implements Codec {
  readonly #library: Libzstd;
  readonly #output = fixedBytes(BUFFER_BYTES);
  readonly #input = fixedBytes(BUFFER_BYTES);
  #stream: unknown;
  /** Holds what the library points to. */
  #chunk: Buffer | undefined;
  /** Between frames. */
  #complete = true;

  constructor(library: Libzstd) {
    this.#library = library;
    this.#stream = library.create();
  }

  get idle(): boolean {
    return this.#chunk === undefined;
  }

  feed(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunk = chunk;
    point(this.#input, chunk);
  }

  step(output: Buffer): number {
    const library = this.#library;
    point(this.#output, output);
    const result = library.decompress(this.#stream, this.#output, this.#input);
    if (library.isError(result) !== 0) throw new Error(library.errorName(result));
    this.#complete = Number(result) === 0;
    const length = Number(this.#output.readBigUInt64LE(POSITION));
    const used = this.#input.readBigUInt64LE(POSITION) === this.#input.readBigUInt64LE(SIZE);
    // A full buffer may not have been enough, but not at the end of a frame.
    if (used && (this.#complete || length < output.length)) this.#chunk = undefined;
    return length;
  }

  end(): void {
    if (!this.#complete) throw new Error("unexpected end of data");
  }

  [Symbol.dispose](): void {
    if (this.#stream !== undefined) this.#library.free(this.#stream);
    this.#stream = undefined;
    this.#chunk = undefined;
  }
}

function point(buffer: Buffer, bytes: Buffer): void {
  buffer.writeBigUInt64LE(addressOf(bytes), 0);
  buffer.writeBigUInt64LE(BigInt(bytes.length), SIZE);
  buffer.writeBigUInt64LE(0n, POSITION);
}
