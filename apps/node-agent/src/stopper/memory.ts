/** A stopper without a process: for tests, and for agents whose containers only pretend to run. */
import type { FenceMark, StopEntry, Stopper } from "./stopper.ts";

export class MemoryStopper implements Stopper {
  readonly entries = new Map<string, StopEntry>();
  readonly marks = new Map<string, FenceMark>();
  deadlineBoottimeMs = 0;
  unusable: string | undefined;

  problem(): string | undefined {
    return this.unusable;
  }

  async ensure(): Promise<void> {}

  arm(deadlineBoottimeMs: number): void {
    this.deadlineBoottimeMs = deadlineBoottimeMs;
  }

  deadline(): number {
    return this.deadlineBoottimeMs;
  }

  async list(entry: StopEntry): Promise<void> {
    this.entries.set(entry.key, entry);
  }

  unlist(key: string): void {
    this.entries.delete(key);
    this.marks.delete(key);
  }

  mark(key: string): FenceMark | undefined {
    return this.marks.get(key);
  }
}
