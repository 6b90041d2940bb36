/** Headers of the tar files that are written here: ustar, always the same for the same content (no times, no owners). */

export const BLOCK = 512;
const OCTAL_MAX = 8 ** 11 - 1;

/** @param name at most 100 bytes of ASCII; all names here are the library's own */
export function tarHeader(name: string, sizeBytes: number, type: "file" | "directory"): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0, 100, "latin1");
  octal(block, 100, 8, type === "directory" ? 0o755 : 0o644);
  octal(block, 108, 8, 0);
  octal(block, 116, 8, 0);
  if (sizeBytes <= OCTAL_MAX) octal(block, 124, 12, sizeBytes);
  else base256(block, 124, sizeBytes);
  octal(block, 136, 12, 0);
  block.write(type === "directory" ? "5" : "0", 156, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  octal(block, 329, 8, 0);
  octal(block, 337, 8, 0);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** What fills the last block of an entry's data. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
}

/** Two blocks of zeros. */
export const tarEnd: Buffer = Buffer.alloc(2 * BLOCK);

function octal(block: Buffer, offset: number, length: number, value: number): void {
  block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset, "latin1");
}

/** As GNU tar writes sizes from 8 GiB on. */
function base256(block: Buffer, offset: number, value: number): void {
  block[offset] = 0x80;
  block.writeBigUInt64BE(BigInt(value), offset + 4);
}
