/** When images were last used. Noted in memory at each use, written together now and then: a read never costs a write. */
import type { Clock, Logger } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { upsertUse } from "./rows.ts";

const FLUSH_AFTER_MS = 60_000;

export class ImageUses {
  readonly #metadata: Metadata;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #noted = new Map<string, { readonly namespace: string; readonly name: string; readonly atMs: number }>();
  #flushedAtMs: number;

  constructor(metadata: Metadata, clock: Clock, logger: Logger) {
    this.#metadata = metadata;
    this.#clock = clock;
    this.#logger = logger;
    this.#flushedAtMs = clock.monotonicMs();
  }

  note(namespace: string, name: string): void {
    this.#noted.set(`${namespace} ${name}`, { namespace, name, atMs: this.#clock.nowMs() });
    if (this.#clock.monotonicMs() - this.#flushedAtMs >= FLUSH_AFTER_MS) void this.flush();
  }

  /** Of a use that may not be written yet; undefined when there was none since the last flush. */
  notedAtMs(namespace: string, name: string): number | undefined {
    return this.#noted.get(`${namespace} ${name}`)?.atMs;
  }

  async flush(): Promise<void> {
    this.#flushedAtMs = this.#clock.monotonicMs();
    if (this.#noted.size === 0) return;
    const uses = [...this.#noted.values()];
    this.#noted.clear();
    try {
      await this.#metadata.transact(uses.map(({ namespace, name, atMs }) => upsertUse(namespace, name, atMs)));
    } catch (error) {
      this.#logger.warn({ err: error, images: uses.length }, "when images were used could not be recorded");
    }
  }
}
