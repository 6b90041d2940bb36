/**
 * A partition that was asked for (`berth drill partition`): until when this node keeps itself away from the control plane.
 *
 * Invariants: the end is on record before anybody hears that the order was taken, so an agent that is killed and started again
 * stays cut off until then; it is never later than {@link MOST_DRILL_MS} from now; a record of another boot, or one that cannot be
 * read, is no cut. Nobody is needed for the end: it is by this node's CLOCK_BOOTTIME.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { StatusError } from "@berth/base";

/** Of any drill. */
export const MOST_DRILL_MS = 600_000;

export interface DrillCutDeps {
  /** `drill.json`; its directory is made. */
  readonly file: string;
  readonly boottimeMs: () => number;
  /** Of the machine: the clock starts anew with it. */
  readonly bootId: string;
}

export class DrillCut {
  readonly #deps: DrillCutDeps;

  constructor(deps: DrillCutDeps) {
    this.#deps = deps;
  }

  /** 0: it is not cut off. */
  remainingMs(): number {
    const record = this.#read();
    if (record === undefined || record.bootId !== this.#deps.bootId) return 0;
    const remaining = record.untilBoottimeMs - this.#deps.boottimeMs();
    return remaining > 0 && remaining <= MOST_DRILL_MS ? remaining : 0;
  }

  /** @throws when it cannot be put on record: then there is no cut */
  take(drill: string, durationMs: number): void {
    const { file, boottimeMs, bootId } = this.#deps;
    const record = { drill, untilBoottimeMs: boottimeMs() + durationMs, bootId };
    try {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(`${file}.new`, JSON.stringify(record));
      renameSync(`${file}.new`, file);
    } catch (error) {
      throw StatusError.from(error, "the drill could not be put on record");
    }
  }

  end(): void {
    rmSync(this.#deps.file, { force: true });
  }

  #read(): { readonly untilBoottimeMs: number; readonly bootId: string } | undefined {
    try {
      const { untilBoottimeMs, bootId } = JSON.parse(readFileSync(this.#deps.file, "utf8")) as Record<string, unknown>;
      if (typeof untilBoottimeMs !== "number" || typeof bootId !== "string") return undefined;
      return { untilBoottimeMs, bootId };
    } catch {
      return undefined; // none, or a damaged one: being connected is the safe side
    }
  }
}
