/**
 * Shared libraries that the host may have, called in this thread.
 *
 * What is called here runs with our rights on bytes that a registry sent; so only libraries of the distribution that are
 * made for hostile input are loaded, by the name of the interface they promise to keep, and each is tried on known bytes
 * before it is trusted with a layer.
 */
import koffi from "koffi";

export type NativeLibrary = ReturnType<typeof koffi.load>;

/** Undefined where it is not installed. @param soname such as `libisal.so.2` */
export function loadLibrary(soname: string): NativeLibrary | undefined {
  try {
    return koffi.load(soname);
  } catch {
    return undefined;
  }
}

const memmove: (target: Uint8Array, source: null, length: number) => number | bigint = koffi
  .load("libc.so.6")
  .func("uint64_t memmove(void *, const void *, size_t)");

/** Where the bytes lie, for as long as somebody holds the buffer. */
export function addressOf(bytes: Uint8Array): bigint {
  // V8 may have a few bytes on its own heap, and move them; once their buffer was asked for, they stay.
  if (bytes.buffer.byteLength === 0) return 0n;
  return BigInt(memmove(bytes, null, 0));
}

/** Bytes for structures that a library keeps pointers to. */
export function fixedBytes(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length));
}
