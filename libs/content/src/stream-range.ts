/** A range of a blob, piece by piece. */
import type { BlobReader, ReadRange } from "./content.ts";
import { checkNatural } from "./errors.ts";

const CHUNK_BYTES = 256 * 1024;
const MAX_CHUNK_BYTES = 4 * 1024 * 1024;

/** Checks at once; reads one piece ahead of whoever takes them, so that disk and taker overlap. */
export function streamRange(
  reader: Pick<BlobReader, "digest" | "sizeBytes" | "read">,
  range: ReadRange = {},
): AsyncIterable<Uint8Array> {
  const { offset = 0, length = Infinity, chunkBytes = CHUNK_BYTES } = range;
  checkNatural(`content ${reader.digest}: offset`, offset);
  if (length !== Infinity) checkNatural(`content ${reader.digest}: length`, length);
  checkNatural(`content ${reader.digest}: chunk size`, chunkBytes < 1 ? Number.NaN : chunkBytes);
  const end = Math.min(reader.sizeBytes, offset + length);
  return pieces(reader, offset, end, Math.min(chunkBytes, MAX_CHUNK_BYTES));
}

async function* pieces(
  reader: Pick<BlobReader, "read">,
  offset: number,
  end: number,
  chunkBytes: number,
): AsyncGenerator<Uint8Array> {
  const read = (at: number): Promise<Uint8Array> => {
    const piece = reader.read(at, Math.min(chunkBytes, end - at));
    // Whoever stops early never awaits the piece that was read ahead.
    piece.catch(() => undefined);
    return piece;
  };
  let next = offset < end ? read(offset) : undefined;
  for (let at = offset; next !== undefined;) {
    const piece = await next;
    at += piece.length;
    next = at < end ? read(at) : undefined;
    yield piece;
  }
}
