/**
 * A stopper that ends pretended containers by a timer. A real one is a process that outlives the agent; this one dies with the
 * simulator, and is as if it had not:
 *  1. The deadline is on record as long as something is listed, so an agent that comes again within its lease stops nothing.
 *  2. What was due while no process was there is ended as of then: marked at the deadline, its exit beside it.
 *  3. A deadline of another boot has passed, as with the real one.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { MemoryStopper } from "../stopper/memory.ts";
import type { StopEntry } from "../stopper/stopper.ts";

export interface PretendStopperDeps {
  readonly boottimeMs: () => number;
  /** Of the machine: the clock starts anew with it. */
  readonly bootId: string;
  /** Asks the container of this execution to end, as of so many milliseconds ago. */
  readonly stop: (key: string, agoMs: number) => void;
}

export class PretendStopper extends MemoryStopper implements Disposable {
  readonly #deps: PretendStopperDeps;
  readonly #file: string;
  #timer: NodeJS.Timeout | undefined;

  /** @param file keeps the deadline; its directory is made */
  constructor(deps: PretendStopperDeps, file: string) {
    super();
    this.#deps = deps;
    this.#file = file;
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    this.deadlineBoottimeMs = readDeadline(file, deps.bootId);
  }

  /** Of an execution that runs already, begun by the process before. */
  takeUp(key: string): void {
    this.entries.set(key, { key, cgroups: [], freezer: undefined, initPidFile: "", signal: 0, graceMs: 0 });
    const agoMs = this.#deps.boottimeMs() - this.deadlineBoottimeMs;
    if (agoMs < 0) this.#look();
    // Without a deadline nobody can say since when.
    else this.#fire(key, this.deadlineBoottimeMs === 0 ? 0 : agoMs);
  }

  override arm(deadlineBoottimeMs: number): void {
    super.arm(deadlineBoottimeMs);
    if (this.entries.size === 0) return;
    this.#record();
    this.#look();
  }

  override async list(entry: StopEntry): Promise<void> {
    if (this.entries.size === 0) this.#record();
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
      if (this.#deps.boottimeMs() >= this.deadlineBoottimeMs) for (const key of this.entries.keys()) this.#fire(key, 0);
      else if (this.entries.size > 0) this.#look();
    }, waitMs).unref();
  }

  #fire(key: string, agoMs: number): void {
    if (this.marks.has(key)) return;
    const firedBoottimeMs = this.#deps.boottimeMs() - agoMs;
    this.marks.set(key, { firedBoottimeMs, deadlineBoottimeMs: this.deadlineBoottimeMs });
    this.#deps.stop(key, agoMs);
  }

  /** Whole or not at all: the simulator may be killed at any time. */
  #record(): void {
    writeFileSync(`${this.#file}.new`, `${Math.floor(this.deadlineBoottimeMs)} ${this.#deps.bootId}\n`, {
      mode: 0o600,
    });
    renameSync(`${this.#file}.new`, this.#file);
  }
}

/** 0: not known, so it has passed. */
function readDeadline(file: string, bootId: string): number {
  try {
    const [deadline, boot] = readFileSync(file, "utf8").trim().split(" ");
    return boot === bootId ? Number(deadline) : 0;
  } catch {
    return 0; // nothing was ever listed
  }
}
