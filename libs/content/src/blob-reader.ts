/** Reads a committed blob at any offset. The open file stays readable when the blob is deleted meanwhile. */
import { open, type FileHandle } from "node:fs/promises";
import type { Digest } from "@berth/base";
import type { BlobReader, ReadRange } from "./content.ts";
import { streamRange } from "./stream-range.ts";
import { checkNatural, contentLost } from "./errors.ts";
import { fileError, isMissing } from "./layout.ts";

/** @throws DATA_LOSS `CONTENT_LOST` when the file is gone or has not the size that its row says. */
export async function openBlobReader(path: string, digest: Digest, sizeBytes: number): Promise<BlobReader> {
  const file = await open(path, "r").catch((error: unknown) => {
    throw isMissing(error) ? contentLost(digest, "its file is missing", error) : fileError(error, `content ${digest}`);
  });
  try {
    const { size } = await file.stat();
    if (size !== sizeBytes) throw contentLost(digest, `its file has ${size} bytes, not ${sizeBytes}`);
    return new FileBlobReader(file, digest, sizeBytes);
  } catch (error) {
    await file.close();
    throw error;
  }
}

class FileBlobReader implements BlobReader {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #file: FileHandle;
  #closed: Promise<void> | undefined;

  constructor(file: FileHandle, digest: Digest, sizeBytes: number) {
    this.#file = file;
    this.digest = digest;
    this.sizeBytes = sizeBytes;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    checkNatural(`content ${this.digest}: offset`, offset);
    checkNatural(`content ${this.digest}: length`, length);
    // A buffer of its own and not of the pool, so that it can be handed to another thread.
    const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(length, this.sizeBytes - offset)));
    for (let filled = 0; filled < bytes.length;) {
      const { bytesRead } = await this.#file
        .read(bytes, filled, bytes.length - filled, offset + filled)
        .catch((error: unknown) => {
          throw fileError(error, `content ${this.digest}`);
        });
      if (bytesRead === 0)
        throw contentLost(this.digest, `its file ends at ${offset + filled} of ${this.sizeBytes} bytes`);
      filled += bytesRead;
    }
    return bytes;
  }

  stream(range?: ReadRange): AsyncIterable<Uint8Array> {
    return streamRange(this, range);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#file.close();
    return this.#closed;
  }
}
