/** Answers in a row, and what they amount to. Pure. */

export interface Tally {
  readonly successes: number;
  readonly failures: number;
}

export const EMPTY: Tally = { successes: 0, failures: 0 };

export interface Thresholds {
  readonly successThreshold: number;
  readonly failureThreshold: number;
}

export function count(tally: Tally, success: boolean): Tally {
  return success ? { successes: tally.successes + 1, failures: 0 } : { successes: 0, failures: tally.failures + 1 };
}

/** Undefined while neither threshold is reached. */
export function verdict(tally: Tally, thresholds: Thresholds): "succeeded" | "failed" | undefined {
  if (tally.successes >= thresholds.successThreshold) return "succeeded";
  if (tally.failures >= thresholds.failureThreshold) return "failed";
  return undefined;
}
