/** The decompressing half of a layer's work, where another thread does the rest. */
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { Decompressor } from "./decompress.ts";
import type { LayerJob } from "./layer-job.ts";

/**
 * Decompression for another thread, which reads the pipe. What cannot be decompressed ends it early and is no error here:
 * the reader misses something then, and the blob, if it proves to be the right one, is judged once more by a single job.
 */
export class Forward implements Disposable {
  readonly #decompressor: Decompressor;
  readonly #fd: number;
  /** Only where no program writes: a socket makes the pipe non-blocking, for all who have it. */
  #pipe: Socket | undefined;
  #failed = false;
  #closed = false;

  constructor({ decompress, sizeBytes }: LayerJob, fd: number) {
    this.#fd = fd;
    this.#decompressor = new Decompressor({
      ...decompress,
      sizeBytes,
      outputFd: fd,
      onData: (chunk) => this.#push(Buffer.from(chunk)),
    });
  }

  write(chunk: Buffer): Promise<void> | undefined {
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
    const pipe = this.#pipe;
    if (pipe !== undefined && !pipe.destroyed) {
      await new Promise<void>((resolve) => void pipe.once("close", resolve).end(() => pipe.destroy()));
    }
    this.#close();
  }

  [Symbol.dispose](): void {
    this.#decompressor[Symbol.dispose]();
    this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#pipe === undefined) closeSync(this.#fd);
    else this.#pipe.destroy();
  }

  #push(chunk: Buffer): Promise<void> | void {
    const pipe = (this.#pipe ??= this.#open());
    if (this.#failed || pipe.write(chunk)) return;
    return new Promise((resolve) => {
      const done = (): void => {
        pipe.off("drain", done).off("close", done);
        resolve();
      };
      pipe.on("drain", done).on("close", done);
    });
  }

  #open(): Socket {
    const pipe = new Socket({ fd: this.#fd, readable: false, writable: true });
    return pipe.on("error", () => (this.#failed = true));
  }
}
