/**
 * Who may touch an ingest: one at a time, be it a writer, an abort, an expiry or a recovery (invariant 2 of `content.ts`).
 * Keyed by the ingest's folder name, for recovery meets folders whose ref it cannot know.
 */
export class IngestClaims {
  readonly #held = new Set<string>();

  /** What gives the claim back, or undefined when another one has it. */
  tryClaim(name: string): (() => void) | undefined {
    if (this.#held.has(name)) return undefined;
    this.#held.add(name);
    let held = true;
    return () => {
      if (held) this.#held.delete(name);
      held = false;
    };
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
