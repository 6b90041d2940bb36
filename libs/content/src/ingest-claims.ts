/**
 * Who may touch an ingest: one at a time, be it a writer, an abort, an expiry or a recovery (invariant 2 of `content.ts`).
 * Keyed by the ingest's folder name, for recovery meets folders whose ref it cannot know.
 */
import type { IngestHolder } from "./errors.ts";

export class IngestClaims {
  readonly #held = new Map<string, IngestHolder>();

  /** What gives the claim back, or undefined when another one has it. */
  tryClaim(name: string, by: IngestHolder = { holder: undefined, sinceMs: 0 }): (() => void) | undefined {
    if (this.#held.has(name)) return undefined;
    this.#held.set(name, by);
    let held = true;
    return () => {
      if (held) this.#held.delete(name);
      held = false;
    };
  }

  holder(name: string): IngestHolder | undefined {
    return this.#held.get(name);
  }

  /** Runs `body` with the claim, or not at all; says whether it ran. */
  async ifFree(name: string, body: () => Promise<boolean>): Promise<boolean> {
    const release = this.tryClaim(name);
    if (release === undefined) return false;
    try {
      return await body();
    } finally {
      release();
    }
  }
}
