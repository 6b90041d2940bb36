/**
 * What a cron job's clock asks for at a moment. Pure: the schedule, what was last decided, the runs under way and the time in;
 * which scheduled times are decided now, and how, out.
 *
 * Invariants:
 *  1. Each scheduled time is decided once, in order; what is decided is never decided again (`decidedUntil` only grows).
 *  2. At most one run is begun by one look: of several times that have passed (no controller was there) the newest alone may
 *     still be run, and only within the starting deadline. The others are missed, and are said to be.
 *  3. Forbid never has two runs under way; Replace ends what runs before it begins; Allow does neither.
 */
export type Concurrency = "Allow" | "Forbid" | "Replace";

export interface CronInput {
  /** The scheduled times after the first moment and not after the second, oldest first; at most `limit`, the newest of them. */
  timesBetween(after: Date, until: Date, limit: number): readonly Date[];
  /** The first scheduled time after a moment. */
  next(after: Date): Date;
  readonly concurrency: Concurrency;
  /** How late a run may begin; undefined: any time until the next one is due. */
  readonly startingDeadlineMs: number | undefined;
  readonly suspended: boolean;
  readonly decidedUntil: Date;
  readonly active: number;
  readonly now: Date;
}

export type Decision =
  | { readonly at: Date; readonly outcome: "Started"; readonly replaces: boolean }
  | { readonly at: Date; readonly outcome: "Skipped" | "Missed" | "Suspended"; readonly message: string };

export interface CronPlan {
  readonly decisions: readonly Decision[];
  readonly decidedUntil: Date;
  readonly wakeAt: Date;
}

/** More than so many missed times are told as one. */
const MOST_TOLD = 100;

export function planCron(input: CronInput): CronPlan {
  const { now, decidedUntil } = input;
  const due = input.timesBetween(decidedUntil, now, MOST_TOLD);
  const newest = due.at(-1);
  const wakeAt = input.next(newest ?? (decidedUntil > now ? decidedUntil : now));
  if (newest === undefined) return { decisions: [], decidedUntil, wakeAt };
  const passed = due
    .slice(0, -1)
    .map((at): Decision => ({ at, outcome: "Missed", message: "a later one is due already" }));
  return { decisions: [...passed, decide(input, newest)], decidedUntil: newest, wakeAt };
}

function decide({ now, suspended, startingDeadlineMs, concurrency, active }: CronInput, at: Date): Decision {
  if (suspended) return { at, outcome: "Suspended", message: "it is suspended" };
  const lateMs = now.getTime() - at.getTime();
  if (startingDeadlineMs !== undefined && lateMs > startingDeadlineMs) {
    const message = `it could not begin within ${startingDeadlineMs / 1_000} s`;
    return { at, outcome: "Missed", message };
  }
  if (concurrency === "Forbid" && active > 0) {
    return { at, outcome: "Skipped", message: "the run before is still under way" };
  }
  return { at, outcome: "Started", replaces: concurrency === "Replace" && active > 0 };
}
