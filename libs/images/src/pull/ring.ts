/**
 * Bytes from one thread to another through memory that both see: a ring of buffers, filled by one and read in place by the
 * other. Nothing is copied, and nothing passes through the kernel but the waking of a thread that waits.
 *
 * Invariants:
 *  1. A buffer belongs to the writer until it is `pushed`, then to the reader until its callback has returned.
 *  2. Each side may leave at any time: the writer by `end`, the reader by `close`. The other one is woken and told.
 *  3. Nobody blocks a thread: waiting is a promise.
 */
import type { OutputBuffers } from "./codec.ts";

const SLOTS = 8;
const SLOT_BYTES = 256 * 1024;

/** Of the 32-bit words in front of the buffers. */
const PUSHED = 0;
const READ = 1;
/** Raised with every news of the writer's, and of the reader's: what the other one waits on. */
const WRITER_NEWS = 2;
const READER_NEWS = 3;
const ENDED = 4;
const CLOSED = 5;
const LENGTHS = 8;
const WORDS = LENGTHS + SLOTS;
const DATA = 4096;
const ALIVE_MS = 60_000;

/** Shared memory for a ring; structured-cloneable. */
export type RingMemory = SharedArrayBuffer;

export function ringMemory(): RingMemory {
  return new SharedArrayBuffer(DATA + SLOTS * SLOT_BYTES);
}

class Ring {
  protected readonly words: Int32Array;
  readonly #memory: RingMemory;

  constructor(memory: RingMemory) {
    this.#memory = memory;
    this.words = new Int32Array(memory, 0, WORDS);
  }

  protected load(word: number): number {
    return Atomics.load(this.words, word);
  }

  /** Sequence numbers go round at 2^32; their difference does not. */
  protected get filled(): number {
    return (this.load(PUSHED) - this.load(READ)) | 0;
  }

  protected slot(sequence: number): { readonly index: number; readonly bytes: Buffer } {
    const index = (sequence >>> 0) % SLOTS;
    return { index, bytes: Buffer.from(this.#memory, DATA + index * SLOT_BYTES, SLOT_BYTES) };
  }

  protected tell(news: number): void {
    Atomics.add(this.words, news, 1);
    Atomics.notify(this.words, news);
  }

  /** Until there is news that `seen` does not count. */
  protected async wait(news: number, seen: number): Promise<void> {
    const { async, value } = Atomics.waitAsync(this.words, news, seen);
    if (!async) return;
    // A thread that has nothing but such a promise to wait for would end.
    const alive = setInterval(() => {}, ALIVE_MS);
    try {
      await value;
    } finally {
      clearInterval(alive);
    }
  }
}

export class RingWriter extends Ring implements OutputBuffers {
  /** The reader has left: what is pushed is lost. */
  get closed(): boolean {
    return this.load(CLOSED) !== 0;
  }

  take(): Buffer | undefined {
    return this.filled < SLOTS ? this.slot(this.load(PUSHED)).bytes : undefined;
  }

  /** Resolves when there is a free buffer, or when the reader has left, which frees all of them. */
  async free(): Promise<void> {
    for (;;) {
      const seen = this.load(READER_NEWS);
      if (this.closed) Atomics.store(this.words, READ, this.load(PUSHED));
      if (this.filled < SLOTS) return;
      await this.wait(READER_NEWS, seen);
    }
  }

  /** Hands over the buffer that was taken last, filled up to `length`. */
  push(length: number): void {
    const sequence = this.load(PUSHED);
    this.words[LENGTHS + this.slot(sequence).index] = length;
    Atomics.store(this.words, PUSHED, (sequence + 1) | 0);
    this.tell(WRITER_NEWS);
  }

  end(): void {
    Atomics.store(this.words, ENDED, 1);
    this.tell(WRITER_NEWS);
  }
}

export class RingReader extends Ring {
  /** Hands out chunks, each valid during the call, until the writer ends; false from `take` ends it sooner. */
  async read(take: (chunk: Buffer) => boolean): Promise<void> {
    while (!this.#isClosed()) {
      const seen = this.load(WRITER_NEWS);
      if (this.filled > 0) {
        const sequence = this.load(READ);
        const { index, bytes } = this.slot(sequence);
        const more = take(bytes.subarray(0, this.words[LENGTHS + index]));
        Atomics.store(this.words, READ, (sequence + 1) | 0);
        this.tell(READER_NEWS);
        if (!more) return this.close();
        continue;
      }
      if (this.load(ENDED) !== 0) return;
      await this.wait(WRITER_NEWS, seen);
    }
  }

  /** Leaves; whoever is in `read` comes back from it. */
  close(): void {
    Atomics.store(this.words, CLOSED, 1);
    this.tell(READER_NEWS);
    this.tell(WRITER_NEWS);
  }

  #isClosed(): boolean {
    return this.load(CLOSED) !== 0;
  }
}
