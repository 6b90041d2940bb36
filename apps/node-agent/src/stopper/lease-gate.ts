/**
 * When a fenced task may be started (step Start of the protocol in `stopper.ts`): while the lease is held, and while the node
 * knows at least what the controller wanted when it last granted the lease. So an execution that was replaced while the node
 * was cut off never starts again, and none starts that the stopper would end at once. Nor does any while the controller says that
 * its store was put back and it does not know yet what runs elsewhere.
 */
import { withSignal } from "@berth/base";

/** Of a set or job, or of a task that one of them asked for. */
export interface Known {
  readonly storeEpoch: string;
  readonly revision: number;
}

export interface LeaseGateDeps {
  /** CLOCK_BOOTTIME. */
  readonly boottimeMs: () => number;
  /** What was taken over of the controller's sets. */
  readonly applied: () => Known;
}

/** What is left of the lease must be worth a start. */
const MARGIN_MS = 500;

export class LeaseGate {
  readonly #deps: LeaseGateDeps;
  #untilBoottimeMs = 0;
  #wanted: Known = { storeEpoch: "", revision: 0 };
  #held = false;
  #changed = Promise.withResolvers<void>();

  constructor(deps: LeaseGateDeps) {
    this.#deps = deps;
  }

  /** The lease was granted until then, when the controller wanted this revision. */
  granted(untilBoottimeMs: number, wanted: Known, held = false): void {
    this.#held = held;
    this.#untilBoottimeMs = untilBoottimeMs;
    this.#wanted = wanted;
    this.#change();
  }

  /** A set was taken over. */
  caughtUp(): void {
    this.#change();
  }

  isOpen(asked: Known): boolean {
    if (this.#held) return false;
    if (this.#deps.boottimeMs() + MARGIN_MS >= this.#untilBoottimeMs) return false;
    return covers(this.#deps.applied(), this.#wanted) || covers(asked, this.#wanted);
  }

  /** Resolves when it is open for what this asked for. @throws the signal's reason. */
  async open(asked: Known, signal: AbortSignal): Promise<void> {
    while (!this.isOpen(asked)) await withSignal(this.#changed.promise, signal);
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

function covers(known: Known, wanted: Known): boolean {
  return known.storeEpoch === wanted.storeEpoch && known.revision >= wanted.revision;
}
