/**
 * A stopper that ends pretended containers by a timer. It dies with its process, where a real one outlives it: what ran fenced
 * when a simulator ended is ended when it comes again, for nobody has looked at the time meanwhile.
 */
import { MemoryStopper } from "../stopper/memory.ts";
import type { StopEntry } from "../stopper/stopper.ts";

export interface PretendStopperDeps {
  readonly boottimeMs: () => number;
  /** Asks the container of this execution to end. */
  readonly stop: (key: string) => void;
}

export class PretendStopper extends MemoryStopper implements Disposable {
  readonly #deps: PretendStopperDeps;
  #timer: NodeJS.Timeout | undefined;

  constructor(deps: PretendStopperDeps) {
    super();
    this.#deps = deps;
  }

  /** Of an execution that runs already, begun by the process before. */
  takeUp(key: string): void {
    this.entries.set(key, { key, cgroups: [], freezer: undefined, initPidFile: "", signal: 0, graceMs: 0 });
    this.#look();
  }

  override arm(deadlineBoottimeMs: number): void {
    super.arm(deadlineBoottimeMs);
    if (this.entries.size > 0) this.#look();
  }

  override async list(entry: StopEntry): Promise<void> {
    await super.list(entry);
    this.#look();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  /** One timer, however often it is armed: when it fires too early, it is set again. */
  #look(): void {
    if (this.#timer !== undefined) return;
    const waitMs = Math.max(0, this.deadlineBoottimeMs - this.#deps.boottimeMs());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const firedBoottimeMs = this.#deps.boottimeMs();
      const { deadlineBoottimeMs } = this;
      if (firedBoottimeMs >= deadlineBoottimeMs) {
        for (const key of this.entries.keys()) {
          if (this.marks.has(key)) continue;
          this.marks.set(key, { firedBoottimeMs, deadlineBoottimeMs });
          this.#deps.stop(key);
        }
      } else if (this.entries.size > 0) this.#look();
    }, waitMs).unref();
  }
}
