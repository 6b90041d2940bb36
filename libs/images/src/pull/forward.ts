/** The decompressing half of a layer's work, where another thread does the rest. */
import { Decompressor } from "./decompress.ts";
import type { LayerJob } from "./layer-job.ts";
import { RingWriter, type RingMemory } from "./ring.ts";

/**
 * Decompression for another thread, which reads the ring. What cannot be decompressed ends it early and is no error here:
 * the reader misses something then, and the blob, if it proves to be the right one, is judged once more by a single job.
 */
export class Forward implements Disposable {
  readonly #decompressor: Decompressor;
  readonly #ring: RingWriter;
  #failed = false;

  constructor({ decompress, sizeBytes }: LayerJob, memory: RingMemory) {
    const ring = new RingWriter(memory);
    this.#ring = ring;
    this.#decompressor = new Decompressor({
      ...decompress,
      sizeBytes,
      buffers: ring,
      onData: (chunk) => (chunk.buffer === memory ? ring.push(chunk.length) : this.#copy(chunk, 0)),
    });
  }

  write(chunk: Buffer): Promise<void> | undefined {
    if (this.#ring.closed) this.#failed = true;
    if (this.#failed) return undefined;
    try {
      return this.#decompressor.write(chunk)?.catch(() => void (this.#failed = true));
    } catch {
      this.#failed = true;
      return undefined;
    }
  }

  async finish(): Promise<void> {
    if (!this.#failed) await this.#decompressor.end().catch(() => undefined);
    this.#ring.end();
  }

  [Symbol.dispose](): void {
    this.#decompressor[Symbol.dispose]();
    this.#ring.end();
  }

  /** What another decompressor had in a buffer of its own. */
  #copy(chunk: Buffer, from: number): Promise<void> | void {
    for (let at = from; at < chunk.length;) {
      const buffer = this.#ring.take();
      if (buffer === undefined) return this.#ring.free().then(() => this.#copy(chunk, at));
      const length = chunk.copy(buffer, 0, at);
      this.#ring.push(length);
      at += length;
    }
  }
}
